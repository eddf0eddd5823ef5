"""TensorBoard of a ranking evaluation, read back from its event files."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from components.layer_attention import LayerAttention
from components.ranking_board import write_board


def inside(rows: int, auc: float) -> dict:
    return {"rows": rows, "auc": auc, "auc_interval": [auc, 1.0], "logloss": 0.5}


def row(auc: float) -> dict:
    of_slices = {
        "few": inside(3, auc / 2),
        "none": {"rows": 2, "logloss": 0.5},  # of one class: no AUC
        "many": inside(9, auc),
    }
    return {
        "auc": auc,
        "auc_interval": [auc - 0.125, auc + 0.125],
        "gauc": auc - 0.25,
        "logloss": 0.5,
        "calibration": 1.25,
        "rows_without_prediction": 0,
        "slices": {"history_length": of_slices},
    }


FIGURES = {
    "test": {"rows": 14},
    "hpmn": row(0.75),
    "popularity": row(0.5),
    "last_release": {"rows_without_prediction": 7},
    "tfma": {"auc": 0.75, "logloss": 0.5, "slices": {}},
    "gain": {"popularity": {"auc": [0.125, 0.375]}},
}


def curve(height: float) -> dict:
    bins = [
        {"rows": 7, "prediction": p, "label": p * height, "label_interval": [0.0, p]}
        for p in (0.25, 0.5)
    ]
    return {"calibration": bins, "roc": [[0, 0], [0.0, height], [1, 1]]}


CURVES = {"hpmn": curve(0.75), "popularity": curve(0.25)}
ATTENTION = LayerAttention(
    users=("u: far, 9 events",),
    of_users=np.array([[0.25, 0.75]]),
    interests=("recent (3)", "far (4)"),
    of_interests=np.array([[1.0, 0.0], [0.0, 1.0]]),
)


def read_board(folder: Path) -> dict:
    """Returns {(run, tag): {step: number, text or image}} of every event file below."""
    found: dict = {}
    for file in folder.rglob("events.out.tfevents.*"):
        run = file.parent.relative_to(folder).as_posix()
        for record in tf.compat.v1.train.summary_iterator(str(file)):
            for value in record.summary.value:
                array = tf.make_ndarray(value.tensor)
                if value.metadata.plugin_data.plugin_name == "images":
                    content = tf.io.decode_png(array[2]).numpy()
                else:
                    content = array.item()
                if isinstance(content, bytes):
                    content = content.decode()
                found.setdefault((run, value.tag), {})[record.step] = content
    return found


def has_colour(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=-1).any())


def check_board(write, folder: Path) -> None:
    write(FIGURES, CURVES, ATTENTION, str(folder))
    board = read_board(folder)
    for model, auc in (("hpmn", 0.75), ("popularity", 0.5)):
        assert board[model, "ranking/auc"] == {0: auc}
        assert board[model, "ranking/gauc"] == {0: auc - 0.25}
        assert board[model, "ranking/calibration"] == {0: 1.25}
        curve = board[model, "ranking_by_history_length/auc"]
        assert curve == {0: auc / 2, 2: auc}
    assert not any(run in ("tfma", "gain", "test") for run, _ in board)
    assert board[".", "test/rows"] == {0: 14.0}
    lines = board[".", "figures"][0].splitlines()
    assert lines[0] == "|  | hpmn | popularity | last_release |"
    assert "| auc | 0.750 (0.625 to 0.875) | 0.500 (0.375 to 0.625) |  |" in lines
    lines = board[".", "slices/history_length"][0].splitlines()
    assert lines[0] == "| history_length | rows | auc of hpmn | auc of popularity |"
    assert lines[2:] == [
        "| 0: few | 3 | 0.375 (0.375 to 1.000) | 0.250 (0.250 to 1.000) |",
        "| 1: none | 2 |  |  |",
        "| 2: many | 9 | 0.750 (0.750 to 1.000) | 0.500 (0.500 to 1.000) |",
    ]
    for tag in ("calibration", "roc"):
        image = board[".", tag][0]
        assert has_colour(image, (0, 114, 178)) and has_colour(image, (213, 94, 0))
    assert not np.array_equal(board[".", "calibration"][0], board[".", "roc"][0])
    for name, labels in (("users", 1), ("interests", 2)):
        image = board[".", f"layer_attention/{name}"][0]
        assert abs(image.shape[0] - 28 * labels - 72) < 2


def _one_model_only(figures, curves, attention, folder):
    kept = {name: part for name, part in figures.items() if name != "popularity"}
    write_board(kept, curves, attention, folder)


def _one_curve_only(figures, curves, attention, folder):
    write_board(figures, {"hpmn": curves["hpmn"]}, attention, folder)


def _swapped(figures, curves, attention, folder):
    changed = {"hpmn": figures["popularity"], "popularity": figures["hpmn"]}
    write_board(figures | changed, curves, attention, folder)


def _no_attention(figures, curves, attention, folder):
    write_board(figures, curves, None, folder)


def _no_curves(figures, curves, attention, folder):
    write_board(figures, {}, attention, folder)


def test_board_has_models_slices_and_images_and_the_checker_rejects(tmp_path):
    check_board(write_board, tmp_path / "ours")
    wrongs = (_one_model_only, _one_curve_only, _swapped, _no_attention, _no_curves)
    for number, wrong in enumerate(wrongs):
        with pytest.raises((AssertionError, KeyError)):
            check_board(wrong, tmp_path / str(number))


def test_board_of_a_log_without_test_rows_says_so(tmp_path):
    write_board({"test": {"rows": 0}, "gain": {}, "tfma": {}}, {}, None, str(tmp_path))
    assert read_board(tmp_path)[".", "test/rows"] == {0: 0.0}
