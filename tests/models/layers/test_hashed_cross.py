import numpy as np
import pytest
import tensorflow as tf

from models.layers.hashed_cross import HashedCrosses, cross_buckets
from tests import reference_ranking

BUCKETS = 50


def _crosses():
    """Two crosses of [B, 1] query and [B, C] candidate lists, padding among them."""
    rng = np.random.default_rng(0)

    def of_shape(*shape):
        ids = rng.integers(0, 9, shape)
        values = np.where(ids, rng.choice([1.0, 0.5], shape), 0.0)
        return tf.constant(ids), tf.constant(values, tf.float32)

    query, candidate = of_shape(3, 1, 4), of_shape(3, 2, 2)
    return [[query, candidate], [candidate, of_shape(3, 2, 1), query]]


def check_sum(layer_class):
    """Holds the sum to plain loops, row by row and candidate by candidate."""
    crosses = _crosses()
    layer = layer_class(len(crosses), BUCKETS)
    weights = np.random.default_rng(1).normal(size=2 * BUCKETS)
    layer.weight.assign(weights)
    expected = np.zeros([3, 2])
    for row, place in np.ndindex(3, 2):
        of_row = [
            [
                [
                    (ids.numpy(), values.numpy())
                    for ids, values in zip(
                        ids[row, place % ids.shape[1]],
                        values[row, place % ids.shape[1]],
                        strict=True,
                    )
                ]
                for ids, values in features
            ]
            for features in crosses
        ]
        expected[row, place] = reference_ranking.crosses_sum(of_row, weights, BUCKETS)
    np.testing.assert_allclose(layer(crosses), expected, rtol=1e-4, atol=1e-5)


class ForgetsTheOrder(HashedCrosses):
    def call(self, crosses):
        return super().call([list(reversed(features)) for features in crosses])


class SharesBuckets(HashedCrosses):
    """Crosses that read the same weights."""

    def call(self, crosses):
        return sum(super(SharesBuckets, self).call([features]) for features in crosses)


class CountsPadding(HashedCrosses):
    def call(self, crosses):
        return super().call(
            [[(ids, tf.ones_like(v)) for ids, v in features] for features in crosses]
        )


def test_hashed_crosses_sum_equals_the_loops():
    check_sum(HashedCrosses)


@pytest.mark.parametrize("wrong", [ForgetsTheOrder, SharesBuckets, CountsPadding])
def test_sum_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_sum(wrong)


def test_cross_buckets_are_even():
    """100,000 pairs over 50 buckets: each within 5 deviations of its 2,000."""
    first, second = (part.ravel() for part in np.indices((1000, 100)))
    buckets = cross_buckets([first[:, np.newaxis], second[:, np.newaxis]], BUCKETS)
    counts = np.bincount(buckets.numpy().ravel(), minlength=BUCKETS)
    assert len(counts) == BUCKETS
    assert np.abs(counts - 2000).max() < 5 * np.sqrt(2000)


def test_cross_buckets_tell_the_order_of_features_apart():
    pairs = cross_buckets([tf.constant([[1, 2]]), tf.constant([[1, 2]])], 2**31 - 1)
    assert len(set(pairs.numpy().ravel())) == 4


def test_hashed_crosses_of_empty_lists_are_zero():
    layer = HashedCrosses(1, BUCKETS)
    layer.weight.assign_add(tf.ones_like(layer.weight))
    empty = tf.zeros([3, 1, 0], tf.int64), tf.zeros([3, 1, 0])
    ids = tf.ones([3, 2, 1], tf.int64), tf.ones([3, 2, 1])
    np.testing.assert_array_equal(layer([[empty, ids]]), np.zeros([3, 2]))


def test_hashed_crosses_config_round_trip_behaves_alike():
    first = HashedCrosses(2, BUCKETS)
    first.weight.assign(np.arange(2.0 * BUCKETS))
    second = HashedCrosses.from_config(first.get_config())
    second.set_weights(first.get_weights())
    np.testing.assert_array_equal(first(_crosses()), second(_crosses()))


@pytest.mark.parametrize("bad", [(0, 5), (5, 0)])
def test_hashed_crosses_refuse(bad):
    with pytest.raises(ValueError, match="should be >= 1"):
        HashedCrosses(*bad)
