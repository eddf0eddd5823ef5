"""TensorBoard of an evaluation, read back from its event files."""

from pathlib import Path

import pytest
import tensorflow as tf

from components.retrieval_board import write_board


def row(recall: float, **slices) -> dict:
    return {
        "recall@10": recall / 2,
        "recall@50": recall * 0.75,
        "recall@100": recall,
        "recall@100_interval": [recall - 0.125, recall + 0.125],
        "ndcg@10": 0.25,
        "mrr": 0.125,
        "coverage@10": 0.5,
        "coverage@100": 0.75,
        "gini@10": 0.625,
        "slices": {"history_length": slices},
    }


def inside(events: int, recall: float) -> dict:
    return {
        "events": events,
        "recall@100": recall,
        "recall@100_interval": [recall, 1.0],
    }


FIGURES = {
    "two_tower": row(0.5, few=inside(3, 0.25), many=inside(9, 0.75)),
    "popularity": row(0.25, few=inside(3, 0.125), many=inside(9, 0.375)),
    "gain": {"popularity": [0.125, 0.375]},
    "test": {"events": 12, "gated_cutoff": 100},
}


def read_board(folder: Path) -> dict:
    """Returns {(run, tag): {step: number or text}} of every event file below."""
    found: dict = {}
    for file in folder.rglob("events.out.tfevents.*"):
        run = file.parent.relative_to(folder).as_posix()
        for record in tf.compat.v1.train.summary_iterator(str(file)):
            for value in record.summary.value:
                content = tf.make_ndarray(value.tensor).item()
                content = content.decode() if isinstance(content, bytes) else content
                found.setdefault((run, value.tag), {})[record.step] = content
    return found


def check_board(write, folder: Path) -> None:
    write(FIGURES, str(folder))
    board = read_board(folder)
    for model, recall in (("two_tower", 0.5), ("popularity", 0.25)):
        assert board[model, "retrieval/recall@100"] == {0: recall}
        assert board[model, "retrieval/recall@10"] == {0: recall / 2}
        assert board[model, "retrieval/gini@10"] == {0: 0.625}
        curve = board[model, "retrieval_by_history_length/recall@100"]
        assert curve == {0: recall / 2, 1: recall * 1.5}
        assert (model, "retrieval/popularity_percentile@10") not in board
    assert board[".", "test/events"] == {0: 12.0}
    lines = board[".", "figures"][0].splitlines()
    assert lines[0] == "|  | two_tower | popularity |"
    assert "| recall@100 | 0.500 (0.375 to 0.625) | 0.250 (0.125 to 0.375) |" in lines
    assert "| mrr | 0.125 | 0.125 |" in lines
    lines = board[".", "slices/history_length"][0].splitlines()
    assert lines[2:] == [
        "| 0: few | 3 | 0.250 (0.250 to 1.000) | 0.125 (0.125 to 1.000) |",
        "| 1: many | 9 | 0.750 (0.750 to 1.000) | 0.375 (0.375 to 1.000) |",
    ]


def _one_model_only(figures, folder):
    write_board({k: v for k, v in figures.items() if k != "popularity"}, folder)


def _swapped(figures, folder):
    changed = {
        "two_tower": figures["popularity"],
        "popularity": figures["two_tower"],
    }
    write_board(figures | changed, folder)


def test_board_has_each_model_and_slice_and_the_checker_rejects(tmp_path):
    check_board(write_board, tmp_path / "ours")
    for number, wrong in enumerate((_one_model_only, _swapped)):
        with pytest.raises((AssertionError, KeyError)):
            check_board(wrong, tmp_path / str(number))


def test_board_of_a_log_without_test_events_says_so(tmp_path):
    write_board({"test": {"events": 0, "gated_cutoff": 10}}, str(tmp_path))
    board = read_board(tmp_path)
    assert board[".", "test/events"] == {0: 0.0}
