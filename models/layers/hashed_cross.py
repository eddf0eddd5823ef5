"""Crossed features: a weight for each combination of values, by its hash."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

Values = tuple[tf.Tensor, tf.Tensor]  # ids [..., L] and how much each counts


def cross_buckets(ids: Sequence[tf.Tensor], num_buckets: int) -> tf.Tensor:
    """Returns the bucket of each combination of one id of each list.

    The order of the lists counts: (1, 2) is another combination than (2, 1).

    Args:
        ids: integers, [..., L_1] to [..., L_n]; leading axes broadcast.
        num_buckets: buckets are in [0, num_buckets).

    Returns:
        buckets: int64, [..., L_1 * ... * L_n].
    """
    crossed = tf.zeros([1], tf.uint64)
    for of_one in ids:
        mixed = _mixed(crossed[..., tf.newaxis], of_one[..., tf.newaxis, :])
        crossed = _joined(mixed)
    # The 32 upper bits, scaled to the range: no product of these is beyond 2^63.
    upper = tf.cast(tf.bitwise.right_shift(crossed, _uint64(32)), tf.int64)
    return (upper * num_buckets) // 2**32


def cross_values(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the product of each combination, in the order of `cross_buckets`."""
    crossed = tf.ones([1], values[0].dtype)
    for of_one in values:
        crossed = _joined(crossed[..., tf.newaxis] * of_one[..., tf.newaxis, :])
    return crossed


@tf.keras.utils.register_keras_serializable("tandem")
class HashedCrosses(tf.keras.layers.Layer):
    """The linear part of crossed features.

    out = sum over crosses, over combinations: product of values * weight[bucket]

    Combinations that share a bucket share a weight. Weights start at 0.

    Args:
        num_crosses: how many crosses there are; each has buckets of its own.
        num_buckets: of each cross.
    """

    def __init__(self, num_crosses: int, num_buckets: int, **kwargs) -> None:
        super().__init__(**kwargs)
        for name, value in (
            ("num_crosses", num_crosses),
            ("num_buckets", num_buckets),
        ):
            if value < 1:
                raise ValueError(f"`{name}` should be >= 1. Received: {name}={value}")
        self.num_crosses = num_crosses
        self.num_buckets = num_buckets
        self.weight = self.add_weight(
            name="weight", shape=(num_crosses * num_buckets,), initializer="zeros"
        )

    def call(self, crosses: Sequence[Sequence[Values]]) -> tf.Tensor:
        """Returns [...], the leading axes of what is crossed.

        Args:
            crosses: of each cross, for each crossed feature its ids and values [..., L];
                values of 0 where an id pads.
        """
        out = []
        for number, features in enumerate(crosses):
            ids, values = zip(*features, strict=True)
            buckets = cross_buckets(ids, self.num_buckets) + number * self.num_buckets
            weights = self._gather(buckets)
            out.append(tf.reduce_sum(weights * cross_values(values), axis=-1))
        return sum(out)

    def _gather(self, buckets: tf.Tensor) -> tf.Tensor:
        # Each weight is read once and copied: its gradients are summed in one pass.
        distinct, place = tf.unique(tf.reshape(buckets, [-1]))
        weights = tf.gather(tf.gather(self.weight, distinct), place)
        return tf.reshape(weights, tf.shape(buckets))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_crosses": self.num_crosses,
            "num_buckets": self.num_buckets,
        }


def _joined(grid: tf.Tensor) -> tf.Tensor:
    """Joins the last two axes: [..., L, M] -> [..., L * M]."""
    shape = tf.shape(grid)
    return tf.reshape(grid, tf.concat([shape[:-2], [shape[-2] * shape[-1]]], axis=0))


def _mixed(state: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the finaliser of SplitMix64 of (state, id), as uint64.

    References:
        [1] Steele et al. Fast Splittable Pseudorandom Number Generators. OOPSLA 2014.
    """
    x = (state + tf.cast(ids, tf.uint64) + _uint64(1)) * _uint64(0x9E3779B97F4A7C15)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(30)))
    x = x * _uint64(0xBF58476D1CE4E5B9)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(27)))
    x = x * _uint64(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(31)))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(np.uint64(value))
