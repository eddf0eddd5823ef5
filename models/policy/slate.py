"""Orders the ranked candidates place by place, and gives each its propensity.

At a place, with the items above it gone, a policy with `epsilon` does

    with probability epsilon      any candidate left, each as likely
    with probability 1 - epsilon  what its choice (models/policy/choice.py) draws

    propensity = epsilon / number left + (1 - epsilon) * P(choice draws the item)
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from models.policy.choice import IMPOSSIBLE, Best, Choice, Softmax, largest
from models.policy.noise import Stream, gumbel_noise, place_seeds, uniform_noise
from models.policy.thompson import Thompson
from models.policy_settings import PolicyName, PolicySettings

# Below, the rest follows by logit: bounds what a request for many items can cost.
EXPLORED_PLACES = 100


class Slate(NamedTuple):
    """The candidates of requests in the order in which they are shown.

    Attributes:
        order: [B, C] int32, columns of the candidates, first shown first.
        propensities: [B, C] float32, in that order; 0 where there is no candidate.
        errors: [B, C] float32, standard errors of the propensities; 0 where exact.
    """

    order: tf.Tensor
    propensities: tf.Tensor
    errors: tf.Tensor


def select_slate(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    settings: PolicySettings,
    num_places: tf.Tensor | int | None = None,
    num_explored: int | None = None,
    beliefs: Mapping[str, tf.Tensor] | None = None,
) -> Slate:
    """Orders the candidates of each row and gives each its propensity.

    greedy:   order by logit
    softmax:  order by logit / T + Gumbel(seed, item); the order is then a draw without
              replacement from softmax(logit / T), and
              propensity[j] = exp(logit[j] / T) / sum over i at or below j exp(logit[i] / T)
    ucb:      order by logit + alpha * deviation
    thompson: see `models.policy.thompson`; propensities are estimates

    With `epsilon` see the module. With it or `thompson`, only the first
    `EXPLORED_PLACES` places are drawn, from the first `num_explored` columns. What comes
    below is ordered by logit, with propensity 1.

    Args:
        logits: [B, C] float.
        is_candidate: [B, C] bool; the others go last, with propensity 0.
        item_keys: [B, C] int64 >= 0 naming the items; same seed and item, same noise.
        seeds: [B] int64.
        settings: which policy.
        num_places: int32 scalar, how many places are shown; None means all.
        num_explored: how many columns may be drawn, place by place; None means all.
        beliefs: of `thompson` and `ucb`: `means` and `deviations` of the logits, [B, C],
            or for `thompson` what `BayesianFM.shared_posterior` returns.

    References:
        [1] Kool et al. Stochastic Beams and Where to Find Them: The Gumbel-Top-k Trick.
            ICML 2019. Section 2.3.
    """
    if settings.name is PolicyName.SOFTMAX and not settings.epsilon:
        return _gumbel_order(logits, is_candidate, item_keys, seeds, settings)
    if settings.name is PolicyName.UCB:
        logits = _upper_bounds(beliefs, settings)
    best_first = tf.argsort(
        tf.where(is_candidate, logits, IMPOSSIBLE),
        axis=1,
        direction="DESCENDING",
        stable=True,
    )
    if settings.name in (PolicyName.GREEDY, PolicyName.UCB) and not settings.epsilon:
        shown = tf.gather(is_candidate, best_first, batch_dims=1)
        chances = tf.cast(shown, tf.float32)
        return Slate(best_first, chances, tf.zeros_like(chances))
    walk = _Walk(
        logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs
    )
    num_drawn = walk.num_drawn(num_places)
    place_of, chances, errors = walk.draw(num_drawn)
    rank = tf.argsort(best_first, axis=1)
    place = tf.where(place_of >= 0, place_of, num_drawn + rank)
    order = tf.argsort(place, axis=1)
    shown = tf.gather(is_candidate, order, batch_dims=1)
    rest = tf.cast(shown[:, num_drawn:], tf.float32)
    return Slate(
        order,
        tf.concat([chances, rest], axis=1),
        tf.concat([errors, tf.zeros_like(rest)], axis=1),
    )


def slate_propensities(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    slate_keys: tf.Tensor,
    settings: PolicySettings,
    num_places: tf.Tensor | int | None = None,
    num_explored: int | None = None,
    beliefs: Mapping[str, tf.Tensor] | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the propensities, under the policy, of slates that are given.

    Of a slate that `select_slate` made from the same arguments, they are those that it
    came with.

    Args:
        slate_keys: [B, W] int64, key of the item at each place; -1 for none.
        The others: as of `select_slate`.

    Returns:
        propensities: [B, W] float32: of showing the item at its place, given the items
            above it, whatever their own propensities; 0 for one that is no candidate,
            that stands above already, or whose place the policy does not fill.
        errors: [B, W] float32, their standard errors; 0 where exact.
    """
    if settings.name is PolicyName.UCB:
        logits = _upper_bounds(beliefs, settings)
    walk = _Walk(
        logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs
    )
    return walk.follow(slate_keys, walk.num_drawn(num_places), num_places)


class _Walk:
    """Goes through the places of slates; the arguments are those of `select_slate`."""

    def __init__(
        self, logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs
    ) -> None:
        self._logits = logits
        self._is_candidate = is_candidate
        self._keys = item_keys
        self._seeds = seeds
        self._epsilon = settings.epsilon
        self._num_explored = num_explored
        self._choice = self._choice_of(settings, beliefs)
        self._is_drawn_whole = (
            settings.name is PolicyName.SOFTMAX and not settings.epsilon
        )
        columns = tf.range(tf.shape(logits)[1])
        self._is_explored = is_candidate
        if num_explored is not None and not self._is_drawn_whole:
            self._is_explored = is_candidate & (columns < num_explored)

    def _choice_of(
        self, settings: PolicySettings, beliefs: Mapping[str, tf.Tensor] | None
    ) -> Choice:
        if settings.name is PolicyName.THOMPSON:
            return Thompson(
                beliefs or {},
                self._keys,
                self._seeds,
                settings.alpha,
                settings.propensity_samples,
            )
        if settings.name is PolicyName.SOFTMAX:
            scaled = self._logits / settings.temperature
            return Softmax(scaled, self._keys, self._seeds)
        return Best(self._logits)

    def num_drawn(self, num_places: tf.Tensor | int | None) -> tf.Tensor:
        """Returns how many places are drawn; those below go by logit."""
        num_columns = tf.shape(self._logits)[1]
        places = num_columns if num_places is None else num_places
        places = tf.minimum(places, num_columns)
        if self._is_drawn_whole:
            return places
        if isinstance(self._choice, Best) and not self._epsilon:
            return tf.constant(0)
        if self._num_explored is not None:
            places = tf.minimum(places, self._num_explored)
        return tf.minimum(places, EXPLORED_PLACES)

    def draw(self, num_drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draws the first places.

        Returns:
            place_of: [B, C] int32, the place of each column; -1 where it has none yet.
            chances, errors: [B, num_drawn] float32.
        """

        def step(place, is_left):
            is_picked = self._choice.pick(is_left, place)
            if self._epsilon:
                is_random = self._is_random(place)[:, tf.newaxis]
                is_picked = tf.where(
                    is_random, self._random_item(is_left, place), is_picked
                )
            return is_picked, *self._mixed(self._choice, is_picked, is_left, place)

        first = tf.constant(0)
        _, place_of, chances, errors = self._run(
            step, self._is_explored, first, num_drawn
        )
        return place_of, chances, errors

    def follow(
        self,
        slate_keys: tf.Tensor,
        num_drawn: tf.Tensor,
        num_places: tf.Tensor | int | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns [B, W] float32 each: chances and errors of the given slates."""
        width = tf.shape(slate_keys)[1]
        num_drawn = tf.minimum(num_drawn, width)
        num_filled = width if num_places is None else tf.minimum(width, num_places)

        def given(is_left, place):
            return is_left & (self._keys == slate_keys[:, place, tf.newaxis])

        def step(place, is_left):
            is_picked = given(is_left, place)
            return is_picked, *self._mixed(self._choice, is_picked, is_left, place)

        is_left, _, *drawn = self._run(
            step, self._is_explored, tf.constant(0), num_drawn
        )
        best = Best(self._logits)

        def step_below(place, is_left):
            is_picked = given(is_left, place)
            return is_picked, *best.chance(is_picked, is_left, place)

        is_left = self._is_candidate & (is_left | ~self._is_explored)
        _, _, *below = self._run(step_below, is_left, num_drawn, num_filled)
        missing = [[0, 0], [0, tf.maximum(width - num_filled, 0)]]
        chances, errors = (
            tf.pad(tf.concat(parts, axis=1), missing)
            for parts in zip(drawn, below, strict=True)
        )
        return chances, errors

    def _run(self, step, is_left, begin, end):
        """Returns what is left, `place_of`, and [B, end - begin] chances and errors."""
        size = tf.maximum(end - begin, 0)
        zeros = tf.zeros([tf.shape(self._logits)[0], size])

        def body(place, is_left, place_of, chances, errors):
            is_picked, chance, error = step(place, is_left)
            here = tf.one_hot(place - begin, size)
            return (
                place + 1,
                is_left & ~is_picked,
                tf.where(is_picked, place, place_of),
                chances + chance[:, tf.newaxis] * here,
                errors + error[:, tf.newaxis] * here,
            )

        _, is_left, place_of, chances, errors = tf.while_loop(
            lambda place, *_: place < end,
            body,
            [begin, is_left, tf.fill(tf.shape(self._logits), -1), zeros, zeros],
            # Of a static shape only what all have: a step may know more or less of it.
            shape_invariants=[tf.TensorShape([]), *[tf.TensorShape([None, None])] * 4],
        )
        return is_left, place_of, chances, errors

    def _mixed(self, choice: Choice, is_picked, is_left, place):
        chance, error = choice.chance(is_picked, is_left, place)
        if not self._epsilon:
            return chance, error
        num_left = tf.reduce_sum(tf.cast(is_left, tf.float32), axis=1)
        is_any = tf.cast(tf.reduce_any(is_picked, axis=1), tf.float32)
        share = tf.math.divide_no_nan(is_any, num_left)
        kept = 1.0 - self._epsilon
        return kept * chance + self._epsilon * share, kept * error

    def _is_random(self, place: tf.Tensor) -> tf.Tensor:
        coins = place_seeds(self._seeds, place, Stream.COIN)
        no_item = tf.zeros([tf.shape(self._seeds)[0], 1], tf.int64)
        return uniform_noise(coins, no_item)[:, 0] < self._epsilon

    def _random_item(self, is_left: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        seeds = place_seeds(self._seeds, place, Stream.RANDOM_ITEM)
        return largest(uniform_noise(seeds, self._keys), is_left)


def _upper_bounds(
    beliefs: Mapping[str, tf.Tensor] | None, settings: PolicySettings
) -> tf.Tensor:
    beliefs = beliefs or {}
    return beliefs["means"] + settings.alpha * beliefs["deviations"]


def _gumbel_order(
    logits: tf.Tensor,
    is_candidate: tf.Tensor,
    item_keys: tf.Tensor,
    seeds: tf.Tensor,
    settings: PolicySettings,
) -> Slate:
    """Draws a whole order at once: what `Softmax` draws place by place."""
    scaled = tf.where(is_candidate, logits / settings.temperature, IMPOSSIBLE)
    noise = tf.cast(gumbel_noise(seeds, item_keys), logits.dtype)
    order = tf.argsort(scaled + noise, axis=1, direction="DESCENDING", stable=True)
    ordered = tf.gather(scaled, order, batch_dims=1)
    remaining = tf.math.cumulative_logsumexp(ordered, axis=1, reverse=True)
    shown = tf.gather(is_candidate, order, batch_dims=1)
    chances = tf.cast(tf.where(shown, tf.exp(ordered - remaining), 0.0), tf.float32)
    return Slate(order, chances, tf.zeros_like(chances))
