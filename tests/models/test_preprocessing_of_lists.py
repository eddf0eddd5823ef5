"""Vectors, weights and seed items before the transform's analysis: requests and rows."""

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing import preprocessing_fn, raw_features, shares, whole_vectors
from schemas.features import FeatureCatalog, Side

NAN = np.nan


def test_raw_features_of_vectors_and_weights_are_their_finite_numbers():
    catalog = FeatureCatalog.model_validate(
        {
            "user": [
                {"name": "tags", "kind": "multi_categorical", "weights": "shares"},
                {"name": "taste", "kind": "vector", "size": 2},
            ],
            "context": [{"name": "seed", "kind": "item_id"}],
        }
    )
    inputs = {
        "user_id": tf.constant(["u", "v"]),
        "history_item_ids": tf.constant([["a"], [""]]),
        "user_tags": tf.constant([["x", "", "y"], ["", "", ""]]),
        "user_shares": tf.constant([[0.5, NAN, 0.25], [NAN, NAN, NAN]]),
        "user_taste": tf.constant([[1.0, 2.0], [NAN, NAN]]),
        "context_seed": tf.constant(["a", ""]),
    }
    raw = raw_features(inputs, catalog, Side.USER, Side.CONTEXT)
    assert set(raw) == set(inputs)
    assert raw["user_tags"].indices.numpy().tolist() == [[0, 0], [0, 2]]
    assert raw["user_shares"].indices.numpy().tolist() == [[0, 0], [0, 2]]
    assert raw["user_shares"].values.numpy().tolist() == [0.5, 0.25]
    assert raw["user_taste"].values.numpy().tolist() == [1.0, 2.0]
    assert raw["user_taste"].dense_shape.numpy().tolist() == [2, 2]
    assert raw["context_seed"].indices.numpy().tolist() == [[0, 0]]


def _sparse(rows, nothing):
    """Returns rows of values, of which `nothing` is left out."""
    width = max(map(len, rows))
    cells = [
        ((row, place), value)
        for row, values in enumerate(rows)
        for place, value in enumerate(values)
        if value is not nothing
    ]
    return tf.SparseTensor(
        [cell for cell, _ in cells] or tf.zeros([0, 2], tf.int64),
        [value for _, value in cells],
        [len(rows), width],
    )


def check_shares(share):
    """By hand; a value of no weight weighs 1, and what is below 0 nothing."""
    values = [["a", "b"], ["a", "b"], ["a"], [], ["a", "b"], ["a", "b"], ["a", None]]
    values += [["a", "b"], ["a", None, "b"], ["a", "b"]]
    weights = [[3.0, 1.0], [], [0.25], [], [0.0, 0.0], [-2.0, 4.0], [2.0, 5.0]]
    weights += [[1e38, 3e38], [1.0, None, 3.0], [0.0, 2e-38]]
    expected = [[0.75, 0.25, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    expected += [[0, 1, 0], [1, 0, 0], [0.25, 0.75, 0], [0.25, 0, 0.75], [0, 1, 0]]
    for unsent in (weights, [[*row, 9.0, 9.0, 9.0] if row else row for row in weights]):
        seen = share(_sparse(values, None), _sparse(unsent, None))
        if unsent is weights:
            np.testing.assert_allclose(seen, expected, rtol=1e-6)
        assert seen.shape == (10, 3)
    none = tf.sparse.from_dense(tf.zeros([10, 0]))
    alike = share(_sparse(values, None), none).numpy()
    np.testing.assert_allclose(alike[:4], [*[[0.5, 0.5, 0]] * 2, [1, 0, 0], [0] * 3])


def _plain_sum(values, weights):
    dense = tf.sparse.to_dense(weights)
    return shares(values, weights) * tf.reduce_sum(dense, axis=1, keepdims=True)


def _no_weight_weighs_nothing(values, weights):
    inside = tf.sparse.retain(weights, weights.indices[:, 1] < values.dense_shape[1])
    given = tf.sparse.to_dense(
        tf.SparseTensor(inside.indices, inside.values, values.dense_shape)
    )
    return tf.where(given == 0, 0.0, shares(values, weights))


def _of_absolute_weights(values, weights):
    return shares(values, tf.sparse.map_values(tf.abs, weights))


def _sum_overflows(values, weights):
    inside = tf.sparse.retain(weights, weights.indices[:, 1] < values.dense_shape[1])
    dense = tf.sparse.to_dense(
        tf.SparseTensor(inside.indices, inside.values, values.dense_shape), 1.0
    )
    dense = tf.where(tf.sparse.to_dense(values) != "", tf.maximum(dense, 0.0), 0.0)
    total = tf.reduce_sum(dense, axis=1, keepdims=True)
    return tf.math.divide_no_nan(dense, total)


WRONG_SHARES = [
    *(_plain_sum, _no_weight_weighs_nothing, _of_absolute_weights, _sum_overflows),
]


def test_shares_value():
    check_shares(shares)


@pytest.mark.parametrize("wrong", WRONG_SHARES)
def test_shares_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_shares(wrong)


def check_whole_vectors(whole):
    rows = [[1.0, 2.0], [], [3.0], [4.0, NAN], [5.0, np.inf], [6.0, 7.0, 8.0]]
    seen = whole(_sparse(rows, None), 2).numpy()
    gone = [NAN, NAN]
    np.testing.assert_array_equal(seen, [[1, 2], gone, gone, gone, gone, [6, 7]])
    nothing = whole(tf.sparse.from_dense(tf.zeros([3, 0])), 2)
    np.testing.assert_array_equal(nothing, [gone] * 3)
    assert whole(tf.sparse.from_dense(tf.zeros([0, 0])), 2).shape == (0, 2)


def _filled_up(values, size):
    dense = tf.sparse.to_dense(values)
    return tf.pad(dense, [[0, 0], [0, size]])[:, :size]


def _by_component(values, size):
    dense = tf.sparse.to_dense(values, NAN)
    dense = tf.pad(dense, [[0, 0], [0, size]], constant_values=NAN)[:, :size]
    return tf.where(tf.math.is_finite(dense), dense, NAN)


def test_whole_vectors_value():
    check_whole_vectors(whole_vectors)


@pytest.mark.parametrize("wrong", [_filled_up, _by_component])
def test_whole_vectors_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_whole_vectors(wrong)


def test_a_declared_column_that_the_schema_lacks_is_named():
    catalog = FeatureCatalog.model_validate(
        {"item": [{"name": "cast", "kind": "multi_categorical", "weights": "minutes"}]}
    )
    inputs = dict.fromkeys(("user_id", "item_id", "history_item_ids", "item_cast"))
    with pytest.raises(
        ValueError, match=r"for each of \['item_minutes'\], which the c"
    ):
        preprocessing_fn(inputs, {"catalog": catalog.model_dump_json()})
