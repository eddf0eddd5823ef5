"""Random numbers that are a function of a request's seed and an item.

An answer can then be repeated, and an item draws the same number whatever column it is in.
"""

import enum

import numpy as np
import tensorflow as tf

# One less than a double has: the half added to them is then not rounded, up to u = 1.
_UNIFORM_BITS = 52


class Stream(enum.Enum):
    """What a seed is used for: each use has numbers of its own."""

    COIN = 1  # whether a place is filled at random
    RANDOM_ITEM = 2  # by which item
    ITEM_DRAW = 3  # Thompson sampling: how good each item is
    SHARED_DRAW = 4  # and what its parameters share
    SHARED_SAMPLES = 5  # the same for the estimate of a propensity
    OWN_SAMPLES = 6
    PLACE_NOISE = 7  # softmax where logits change from place to place


def gumbel_noise(seeds: tf.Tensor, item_keys: tf.Tensor) -> tf.Tensor:
    """Returns a standard Gumbel variate for each (seed, item), the same at every call.

    noise = -log(-log(u)),  u as of `uniform_noise`

    Args:
        seeds: [B] int64.
        item_keys: [B, C] int64.

    Returns:
        noise: [B, C] float64, finite.
    """
    return -tf.math.log(-tf.math.log(uniform_noise(seeds, item_keys)))


def uniform_noise(seeds: tf.Tensor, item_keys: tf.Tensor) -> tf.Tensor:
    """Returns a number in (0, 1) for each (seed, item), the same at every call.

    u = (splitmix64(splitmix64(seed) + key) >> 12 + 1/2) / 2^52

    Args:
        seeds: [B] int64.
        item_keys: [B, C] int64.

    Returns:
        noise: [B, C] float64, never 0 or 1.

    References:
        [1] Steele et al. Fast Splittable Pseudorandom Number Generators. OOPSLA 2014.
    """
    mixed = _splitmix64(tf.cast(seeds, tf.uint64))[:, tf.newaxis]
    bits = _splitmix64(mixed + tf.cast(item_keys, tf.uint64))
    bits = tf.bitwise.right_shift(bits, _uint64(64 - _UNIFORM_BITS))
    return (tf.cast(bits, tf.float64) + 0.5) / 2.0**_UNIFORM_BITS


def place_seeds(seeds: tf.Tensor, place: tf.Tensor, stream: Stream) -> tf.Tensor:
    """Returns seeds of one place of the slate, for one use.

    seed' = splitmix64(splitmix64(seed) xor (stream << 32 | place))

    Args:
        seeds: [B] int64.
        place: int32 scalar, from 0.
        stream: the use.

    Returns:
        seeds: [B] int64.
    """
    name = _uint64(stream.value << 32) + tf.cast(place, tf.uint64)
    mixed = _splitmix64(tf.cast(seeds, tf.uint64))
    return tf.cast(_splitmix64(tf.bitwise.bitwise_xor(mixed, name)), tf.int64)


def _splitmix64(x: tf.Tensor) -> tf.Tensor:
    x = x + _uint64(0x9E3779B97F4A7C15)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(30)))
    x = x * _uint64(0xBF58476D1CE4E5B9)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(27)))
    x = x * _uint64(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(31)))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(np.uint64(value))
