"""What TFMA slices by: labels of a batch as Arrow holds it."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow_model_analysis as tfma

from components import ranking_slices, tfma_slices

HISTORIES = [["a"] * 7, None, [], ["b"]]
POSITIONS = [[0], None, [12], None]


def batch(histories, positions) -> dict:
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array(histories, pa.large_list(pa.large_string())),
            pa.array(positions, pa.large_list(pa.int64())),
        ],
        ["history_item_ids", "position"],
    )
    return {tfma.ARROW_RECORD_BATCH_KEY: rows}


def check_labels(with_slice_labels) -> None:
    extracts = batch(HISTORIES, POSITIONS)
    found = with_slice_labels(extracts)
    features = found["features"]
    assert features["history_length_range"].tolist() == [
        *(["5 to 19"], ["0"], ["0"], ["1 to 4"])
    ]
    assert features["position_range"].tolist() == [
        *(["0"], ["not known"], ["10 to 19"], ["not known"])
    ]
    assert found[tfma.ARROW_RECORD_BATCH_KEY] is extracts[tfma.ARROW_RECORD_BATCH_KEY]
    assert "features" not in extracts  # Beam's elements are not to be changed
    without = with_slice_labels(batch(HISTORIES, [None] * 4))["features"]
    assert set(without) == {"history_length_range"}


def _changed(change):
    def wrong(extracts):
        found = tfma_slices.with_slice_labels(extracts)
        return found | {"features": change(dict(found["features"]))}

    return wrong


def _shifted(features):
    return {key: np.roll(labels, 1, axis=0) for key, labels in features.items()}


def _unknown_is_first(features):
    return {key: np.where(v == "not known", "0", v) for key, v in features.items()}


def _always_position(features):
    return {"position_range": np.full([4, 1], "not known")} | features


def _in_place(extracts):
    extracts |= tfma_slices.with_slice_labels(extracts)
    return extracts


def test_labels_are_those_of_the_rows():
    check_labels(tfma_slices.with_slice_labels)


@pytest.mark.parametrize(
    "wrong",
    [
        *(_changed(_shifted), _changed(_unknown_is_first), _changed(_always_position)),
        _in_place,
    ],
)
def test_label_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_labels(wrong)


@pytest.mark.parametrize(
    "rows",
    [
        pa.RecordBatch.from_arrays([pa.nulls(2)] * 2, ["history_item_ids", "position"]),
        pa.RecordBatch.from_arrays([pa.array([1, 2])], ["label"]),
    ],
    ids=["columns of nulls", "no columns"],
)
def test_batch_without_a_history_or_position_is_of_new_users(rows):
    found = tfma_slices.with_slice_labels({tfma.ARROW_RECORD_BATCH_KEY: rows})
    assert {key: labels.tolist() for key, labels in found["features"].items()} == {
        "history_length_range": [["0"], ["0"]]
    }


def test_keys_are_of_slicings_and_collide_with_no_feature():
    names = {ranking_slices.HISTORY_LENGTH, ranking_slices.POSITION}
    assert set(tfma_slices.SLICE_KEYS) == names
    for key in tfma_slices.SLICE_KEYS.values():
        assert not key.startswith(("user_", "item_", "context_"))
        assert key not in ("position", "history_item_ids")


def test_predictions_that_are_nan_become_numbers():
    extracts = {"predictions": np.array([0.25, np.nan]), "labels": np.ones(2)}
    found = tfma_slices.with_numbers(extracts)
    assert found["predictions"].tolist() == [0.25, 0.0]
    assert np.isnan(extracts["predictions"][1])
    assert found["labels"] is extracts["labels"]
