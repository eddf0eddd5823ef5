"""Thompson sampling: at each place, what is best in one draw from the posterior."""

import math
from collections.abc import Mapping

import tensorflow as tf

from models.policy.choice import Penalty, largest
from models.policy.noise import Stream, place_seeds, uniform_noise

_LEAST = 1e-37  # of a float32 that is not rounded to 0
_LEAST_DEVIATION = 1e-6


class Thompson:
    """Draws the logits of the candidates left, and picks the largest.

    Two forms of a draw, by what `beliefs` hold:

    logit       z_c = mean_c + alpha * deviation_c * e_c
    parameters  as `BayesianFM.shared_posterior` has it: the query's parameters are drawn
                once for all candidates of the place, d = alpha * shared_deviations * e;
                given them each candidate has a mean and a deviation, and a draw, of its
                own

    Every place has a new draw. The chance of an item is then an integral over its own
    draw, and over d:

        E over (d, e) of product over the others left of Phi((z - mean_o) / deviation_o)

    It is estimated from `num_samples` draws, of which e is one from each of as many
    equally likely slices of the normal law. That is unbiased, and its error is far below
    that of counting who wins: the standard error is taken from neighbouring slices,
    which never makes it too small on average.

    Args:
        beliefs: `means` and `deviations` [B, C], or what `shared_posterior` returns.
        item_keys: [B, C] int64 naming the items.
        seeds: [B] int64.
        alpha: factor of all deviations.
        num_samples: S, even.

    References:
        [1] Chapelle, Li. An Empirical Evaluation of Thompson Sampling. NIPS 2011.
        [2] Cochran. Sampling Techniques. 3rd ed. 1977. Section 5A.12, collapsed strata.
    """

    def __init__(
        self,
        beliefs: Mapping[str, tf.Tensor],
        item_keys: tf.Tensor,
        seeds: tf.Tensor,
        alpha: float,
        num_samples: int,
    ) -> None:
        self._beliefs = beliefs
        self._keys = item_keys
        self._seeds = seeds
        self._alpha = alpha
        self._num_samples = num_samples

    def pick(self, is_left: tf.Tensor, place: tf.Tensor, penalty: Penalty) -> tf.Tensor:
        means, deviations = self._drawn(place, Stream.SHARED_DRAW, 1)
        seeds = place_seeds(self._seeds, place, Stream.ITEM_DRAW)
        noise = _normal(uniform_noise(seeds, self._keys))
        return largest(means[:, 0] - penalty + deviations[:, 0] * noise, is_left)

    def chance(
        self,
        is_picked: tf.Tensor,
        is_left: tf.Tensor,
        place: tf.Tensor,
        penalty: Penalty,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        means, deviations = self._drawn(place, Stream.SHARED_SAMPLES, self._num_samples)
        if isinstance(penalty, tf.Tensor):
            means -= penalty[:, tf.newaxis]
        picked = is_picked[:, tf.newaxis]  # [B, 1, C]
        own = _of(means, picked) + _of(deviations, picked) * self._slices(place)
        away = (own[..., tf.newaxis] - means) / deviations  # [B, S, C]
        below = 0.5 * tf.math.erfc(-away / math.sqrt(2.0))
        is_rival = (is_left & ~is_picked)[:, tf.newaxis]
        log_below = tf.math.log(tf.maximum(below, _LEAST))
        wins = tf.exp(tf.reduce_sum(tf.where(is_rival, log_below, 0.0), axis=-1))
        wins *= tf.cast(tf.reduce_any(picked, axis=-1), wins.dtype)  # [B, S]
        return tf.reduce_mean(wins, axis=1), _standard_error(wins)

    def _drawn(
        self, place: tf.Tensor, stream: Stream, num_draws: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns means and deviations [B, S, C], or [B, 1, C] where all are alike."""
        beliefs = self._beliefs
        means = beliefs["means"][:, tf.newaxis]
        if "shared_deviations" not in beliefs:
            deviations = self._alpha * beliefs["deviations"][:, tf.newaxis]
            return means, tf.maximum(deviations, _LEAST_DEVIATION)
        size = beliefs["shared_deviations"].shape[-1]
        seeds = place_seeds(self._seeds, place, stream)
        numbers = tf.range(num_draws * size, dtype=tf.int64)[tf.newaxis]
        noise = _normal(uniform_noise(seeds, numbers))
        shape = [tf.shape(seeds)[0], num_draws, size]
        spread = self._alpha * beliefs["shared_deviations"][:, tf.newaxis]
        shift = spread * tf.reshape(noise, shape)  # [B, S, K]

        def along(name: str, values: tf.Tensor) -> tf.Tensor:
            return tf.matmul(values, beliefs[name], transpose_b=True)  # [B, S, C]

        variances = beliefs["variances"][:, tf.newaxis] + (
            2.0 * along("variance_slopes", shift)
            + along("variance_curvatures", tf.square(shift))
        )
        deviations = self._alpha * tf.sqrt(tf.maximum(variances, 0.0))
        return means + along("slopes", shift), tf.maximum(deviations, _LEAST_DEVIATION)

    def _slices(self, place: tf.Tensor) -> tf.Tensor:
        """Returns [B, S]: a normal variate from each of S equally likely slices."""
        seeds = place_seeds(self._seeds, place, Stream.OWN_SAMPLES)
        numbers = tf.range(self._num_samples, dtype=tf.int64)[tf.newaxis]
        uniform = uniform_noise(seeds, numbers)
        first = tf.cast(numbers, uniform.dtype)
        return _normal((first + uniform) / self._num_samples)


def _normal(uniform: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.math.ndtri(uniform), tf.float32)


def _of(values: tf.Tensor, is_picked: tf.Tensor) -> tf.Tensor:
    """Returns [B, S]: the picked candidate's values."""
    return tf.reduce_sum(tf.where(is_picked, values, 0.0), axis=-1)


def _standard_error(wins: tf.Tensor) -> tf.Tensor:
    """Returns [B]: of the mean of [B, S], from differences of neighbours."""
    size = wins.shape[1] // 2
    pairs = tf.reshape(wins, [-1, size, 2])
    differences = tf.square(pairs[..., 0] - pairs[..., 1])
    return tf.sqrt(tf.reduce_sum(differences, axis=1)) / (2.0 * size)
