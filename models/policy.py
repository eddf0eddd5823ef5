"""Which of the ranked candidates to show, in which order, and with what propensity.

A policy turns logits into a slate without repetition. The propensity of a shown item is
the probability, under the policy, of showing it at its position given the items above
it; the product over a slate is the slate's probability. Both policies here have it in
closed form.
"""

import numpy as np
import tensorflow as tf

from models.policy_settings import PolicyName, PolicySettings

# Finite, so that a difference of two of them is 0 and not NaN.
_IMPOSSIBLE = -1e30
# One less than a double has: the half added to them is then not rounded, up to u = 1.
_UNIFORM_BITS = 52


def select_slate(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    settings: PolicySettings,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Orders the candidates of each row and gives each its propensity.

    greedy:   order by logit
    softmax:  order by logit / T + Gumbel(seed, item); the order is then a draw without
              replacement from softmax(logit / T), and
              propensity[j] = exp(logit[j] / T) / sum over i at or below j exp(logit[i] / T)

    Args:
        logits: [B, C] float.
        is_candidate: [B, C] bool; the others go last, with propensity 0.
        item_keys: [B, C] int64 naming the items; same seed and item, same noise.
        seeds: [B] int64.
        settings: which policy.

    Returns:
        order: [B, C] int32, columns of `logits`, first shown first.
        propensities: [B, C] float32, in that order.

    References:
        [1] Kool et al. Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick.
            ICML 2019. Section 2.3.
    """
    logits = tf.where(is_candidate, logits, _IMPOSSIBLE)
    if settings.name is PolicyName.GREEDY:
        order = tf.argsort(logits, axis=1, direction="DESCENDING", stable=True)
        shown = tf.gather(is_candidate, order, batch_dims=1)
        return order, tf.cast(shown, tf.float32)
    scaled = tf.where(is_candidate, logits / settings.temperature, _IMPOSSIBLE)
    noise = tf.cast(gumbel_noise(seeds, item_keys), logits.dtype)
    order = tf.argsort(scaled + noise, axis=1, direction="DESCENDING", stable=True)
    ordered = tf.gather(scaled, order, batch_dims=1)
    remaining = tf.math.cumulative_logsumexp(ordered, axis=1, reverse=True)
    shown = tf.gather(is_candidate, order, batch_dims=1)
    return order, tf.where(shown, tf.exp(ordered - remaining), 0.0)


def gumbel_noise(seeds: tf.Tensor, item_keys: tf.Tensor) -> tf.Tensor:
    """Returns a standard Gumbel variate for each (seed, item), the same at every call.

    noise = -log(-log(u)),  u = (splitmix64(splitmix64(seed) + key) >> 12 + 1/2) / 2^52

    Args:
        seeds: [B] int64.
        item_keys: [B, C] int64.

    Returns:
        noise: [B, C] float64, finite.

    References:
        [1] Steele et al. Fast Splittable Pseudorandom Number Generators. OOPSLA 2014.
    """
    mixed = _splitmix64(tf.cast(seeds, tf.uint64))[:, tf.newaxis]
    bits = _splitmix64(mixed + tf.cast(item_keys, tf.uint64))
    bits = tf.bitwise.right_shift(bits, _uint64(64 - _UNIFORM_BITS))
    uniform = (tf.cast(bits, tf.float64) + 0.5) / 2.0**_UNIFORM_BITS
    return -tf.math.log(-tf.math.log(uniform))


def _splitmix64(x: tf.Tensor) -> tf.Tensor:
    x = x + _uint64(0x9E3779B97F4A7C15)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(30)))
    x = x * _uint64(0xBF58476D1CE4E5B9)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(27)))
    x = x * _uint64(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(31)))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(np.uint64(value))
