"""How a policy fills one place of a slate, given what is left.

A choice has two methods that belong together: `pick` draws an item, `chance` is the
probability with which `pick` draws a given one.
"""

from typing import Protocol

import tensorflow as tf

from models.policy.noise import Stream, gumbel_noise, place_seeds

# Finite, so that a difference of two of them is 0 and not NaN.
IMPOSSIBLE = -1e30

Penalty = tf.Tensor | float


class Choice(Protocol):
    """Draws one of the candidates that are left.

    Args of its methods:
        is_left: [B, C] bool, the candidates that no place above shows.
        is_picked: [B, C] bool, True for one of them, or for none.
        place: int32 scalar, the place to fill, from 0.
        penalty: [B, C] float32, or 0.0: by how much each logit is lowered at the place.
    """

    def pick(self, is_left: tf.Tensor, place: tf.Tensor, penalty: Penalty) -> tf.Tensor:
        """Returns [B, C] bool: True for the item drawn; nowhere if none is left."""

    def chance(
        self,
        is_picked: tf.Tensor,
        is_left: tf.Tensor,
        place: tf.Tensor,
        penalty: Penalty,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns [B] float32, P(is_picked), 0 for none; and [B], its standard error."""


class Best:
    """The largest score, of equal ones the first.

    Args:
        scores: [B, C].
    """

    def __init__(self, scores: tf.Tensor) -> None:
        self._scores = scores

    def pick(self, is_left: tf.Tensor, place: tf.Tensor, penalty: Penalty) -> tf.Tensor:
        return largest(lowered(self._scores, penalty), is_left)

    def chance(
        self,
        is_picked: tf.Tensor,
        is_left: tf.Tensor,
        place: tf.Tensor,
        penalty: Penalty,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        is_it = is_picked & self.pick(is_left, place, penalty)
        chance = tf.cast(tf.reduce_any(is_it, axis=1), tf.float32)
        return chance, tf.zeros_like(chance)


class Softmax:
    """P proportional to exp(logit / T) among those left.

    The item is the best by logit / T + Gumbel noise. The noise is the same at all
    places: given what the places above show, the order of the rest is still a draw. That
    no longer holds where logits change from place to place; then each has noise of its
    own.

    Args:
        logits: [B, C].
        temperature: T.
        item_keys: [B, C] int64 naming the items.
        seeds: [B] int64.
        is_fresh: whether each place has noise of its own.
    """

    def __init__(
        self,
        logits: tf.Tensor,
        temperature: float,
        item_keys: tf.Tensor,
        seeds: tf.Tensor,
        is_fresh: bool,
    ) -> None:
        self._logits = logits
        self._temperature = temperature
        self._keys = item_keys
        self._seeds = seeds
        self._noise = None if is_fresh else gumbel_noise(seeds, item_keys)

    def pick(self, is_left: tf.Tensor, place: tf.Tensor, penalty: Penalty) -> tf.Tensor:
        noise = self._noise
        if noise is None:
            seeds = place_seeds(self._seeds, place, Stream.PLACE_NOISE)
            noise = gumbel_noise(seeds, self._keys)
        scaled = self._scaled(penalty)
        return largest(scaled + tf.cast(noise, scaled.dtype), is_left)

    def chance(
        self,
        is_picked: tf.Tensor,
        is_left: tf.Tensor,
        place: tf.Tensor,
        penalty: Penalty,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        left = tf.where(is_left, self._scaled(penalty), IMPOSSIBLE)
        share = tf.nn.softmax(left, axis=1)
        chance = tf.reduce_sum(tf.where(is_picked, share, 0.0), axis=1)
        chance = tf.cast(chance, tf.float32)
        return chance, tf.zeros_like(chance)

    def _scaled(self, penalty: Penalty) -> tf.Tensor:
        return lowered(self._logits, penalty) / self._temperature


def lowered(logits: tf.Tensor, penalty: Penalty) -> tf.Tensor:
    """Returns the logits less the penalty, in their own type."""
    return logits - tf.cast(penalty, logits.dtype)


def largest(scores: tf.Tensor, is_left: tf.Tensor) -> tf.Tensor:
    """Returns [B, C] bool: True for the largest score left; nowhere if none is left."""
    best = tf.argmax(tf.where(is_left, scores, scores.dtype.min), axis=1)
    columns = tf.range(tf.shape(scores, tf.int64)[1], dtype=tf.int64)
    return (columns == best[:, tf.newaxis]) & is_left
