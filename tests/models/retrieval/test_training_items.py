import numpy as np
import pytest
import tensorflow as tf

from models.losses.replicas import fingerprints
from models.retrieval.training_items import collect_items
from tests.models.retrieval.loss_world import SPACE

# (log's id, transformed id, price): "x" and "y" share the bucket of unknown ids.
ROWS = [("b", 3, 0.3), ("x", 1, 0.7), ("b", 3, 0.3), ("a", 2, 0.2), ("y", 1, 0.9)]


def _batches(rows, size=2):
    names, ids, prices = zip(*rows, strict=True)
    features = {
        "item_id_xf": np.array(ids, np.int64),
        "item_price_xf": np.array(prices, np.float32),
        "history_item_ids_xf": np.ones([len(rows), 3], np.int64),
    }
    row = {"item_id": np.array(names, object)}
    return tf.data.Dataset.from_tensor_slices((features, row)).batch(size)


def check_items(collect):
    pool = collect(SPACE, _batches(ROWS))
    assert len(pool) == 4
    assert list(pool.features) == ["item_id_xf", "item_price_xf"]
    np.testing.assert_array_equal(pool.item_ids, [b"a", b"b", b"x", b"y"])
    np.testing.assert_array_equal(pool.features["item_id_xf"], [2, 3, 1, 1])
    np.testing.assert_allclose(pool.features["item_price_xf"], [0.2, 0.3, 0.7, 0.9])


WRONG = {
    "every row": lambda space, batches: collect_items(
        space,
        batches.map(
            lambda features, row: (
                features,
                {"item_id": tf.strings.as_string(features["item_price_xf"])},
            )
        ),
    ),
    "by transformed id": lambda space, batches: collect_items(
        space,
        batches.map(
            lambda features, row: (
                features,
                {"item_id": tf.strings.as_string(features["item_id_xf"])},
            )
        ),
    ),
    "of the first batch": lambda space, batches: collect_items(space, batches.take(1)),
}


def test_each_item_of_the_log_is_there_once_with_its_features():
    check_items(collect_items)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_checker_of_items_rejects(wrong):
    with pytest.raises(AssertionError):
        check_items(wrong)


def test_lists_of_every_length_are_padded():
    def widened(features, row):
        width = tf.cast(features["item_id_xf"][0], tf.int32)
        features["item_price_xf"] = tf.fill([tf.shape(row["item_id"])[0], width], 5)
        return features, row

    pool = collect_items(SPACE, _batches(ROWS, size=1).map(widened))
    np.testing.assert_array_equal(
        pool.features["item_price_xf"], [[5, 5, 0], [5, 5, 5], [5, 0, 0], [5, 0, 0]]
    )


def test_rows_of_a_pool_belong_together():
    pool = collect_items(SPACE, _batches(ROWS))
    ids, numbers, features = pool.rows(tf.constant([3, 0, 3], tf.int64))
    np.testing.assert_array_equal(ids, [b"y", b"a", b"y"])
    np.testing.assert_array_equal(numbers, fingerprints(tf.constant(["y", "a", "y"])))
    np.testing.assert_array_equal(features["item_id_xf"], [1, 2, 1])


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="`batches` should hold one row or more"):
        collect_items(SPACE, _batches(ROWS).take(0))
