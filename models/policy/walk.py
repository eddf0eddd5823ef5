"""Goes through the places of slates: draws an item for each, or follows given ones.

At a place, with the items above it gone, a policy with `epsilon` does

    with probability epsilon      any candidate left, each as likely
    with probability 1 - epsilon  what its choice (models/policy/choice.py) draws

    propensity = epsilon / number left + (1 - epsilon) * P(choice draws the item)

What is left may depend on the items above (models/policy/rules.py).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from models.policy.choice import Best, Choice, Penalty, Softmax, largest
from models.policy.noise import Stream, place_seeds, uniform_noise
from models.policy.rules import SlateRules, State
from models.policy.thompson import Thompson
from models.policy_settings import PolicyName, PolicySettings

# Below, the rest follows by logit: bounds what a request for many items can cost.
EXPLORED_PLACES = 100

Step = Callable[[tf.Tensor, tf.Tensor, Penalty], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


class Drawn(NamedTuple):
    """What came of going through some places.

    Attributes:
        is_left: [B, C] bool, the candidates that no place shows.
        place_of: [B, C] int32, the place of each column; -1 where it has none.
        chances, errors: [B, places] float32.
        state: what the rules remember.
    """

    is_left: tf.Tensor
    place_of: tf.Tensor
    chances: tf.Tensor
    errors: tf.Tensor
    state: State


class Walk:
    """Goes through the places of slates.

    Args:
        logits, is_candidate, item_keys, seeds, settings, num_explored, beliefs: as of
            `select_slate`.
        rules: what the items above mean for those left.
    """

    def __init__(
        self,
        logits: tf.Tensor,
        is_candidate: tf.Tensor,
        item_keys: tf.Tensor,
        seeds: tf.Tensor,
        settings: PolicySettings,
        num_explored: int | None,
        beliefs: Mapping[str, tf.Tensor] | None,
        rules: SlateRules | None,
    ) -> None:
        self._logits = logits
        self._is_candidate = is_candidate
        self._keys = item_keys
        self._seeds = seeds
        self._epsilon = settings.epsilon
        self._has_rules = rules is not None
        self._rules = rules or SlateRules(settings)
        self._choice = self._choice_of(settings, beliefs)
        is_best = isinstance(self._choice, Best) and not settings.epsilon
        self._is_drawn_whole = (
            settings.name is PolicyName.SOFTMAX
            and not settings.epsilon
            and not self._has_rules
        )
        self._has_draws = self._has_rules or not is_best
        self._num_explored = None if is_best else num_explored
        columns = tf.range(tf.shape(logits)[1])
        self._is_explored = is_candidate
        if self._num_explored is not None and not self._is_drawn_whole:
            self._is_explored = is_candidate & (columns < self._num_explored)

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
            return Softmax(
                self._logits,
                settings.temperature,
                self._keys,
                self._seeds,
                self._rules.has_diversity,
            )
        return Best(self._logits)

    def num_drawn(self, num_places: tf.Tensor | int | None) -> tf.Tensor:
        """Returns how many places are drawn; those below go by logit."""
        num_columns = tf.shape(self._logits)[1]
        places = num_columns if num_places is None else num_places
        places = tf.minimum(places, num_columns)
        if self._is_drawn_whole:
            return places
        if not self._has_draws:
            return tf.constant(0)
        if self._num_explored is not None and not self._has_rules:
            places = tf.minimum(places, self._num_explored)
        return tf.minimum(places, EXPLORED_PLACES)

    def draw(self, num_drawn: tf.Tensor) -> Drawn:
        """Draws the first places."""

        def step(place, is_open, penalty):
            is_picked = self._choice.pick(is_open, place, penalty)
            if self._epsilon:
                is_random = self._is_random(place)[:, tf.newaxis]
                is_picked = tf.where(
                    is_random, self._random_item(is_open, place), is_picked
                )
            return is_picked, *self._mixed(is_picked, is_open, place, penalty)

        return self._run(step, 0, num_drawn)

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

        def given(place, is_open):
            return is_open & (self._keys == slate_keys[:, place, tf.newaxis])

        def step(place, is_open, penalty):
            is_picked = given(place, is_open)
            return is_picked, *self._mixed(is_picked, is_open, place, penalty)

        drawn = self._run(step, 0, num_drawn)
        best = Best(self._logits)

        def step_below(place, is_open, _):
            is_picked = given(place, is_open)
            return is_picked, *best.chance(is_picked, is_open, place, 0.0)

        below = self._run(step_below, num_drawn, num_filled, self.below(drawn))
        missing = [[0, 0], [0, tf.maximum(width - num_filled, 0)]]
        chances = tf.concat([drawn.chances, below.chances], axis=1)
        errors = tf.concat([drawn.errors, below.errors], axis=1)
        return tf.pad(chances, missing), tf.pad(errors, missing)

    def below(self, drawn: Drawn) -> tf.Tensor:
        """Returns [B, C] bool: what goes by logit below the places that were drawn."""
        if not self._has_rules:
            return drawn.is_left
        order = best_first(self._logits, drawn.is_left)
        return drawn.is_left & self._rules.fitting(drawn.state, drawn.is_left, order)

    def _run(self, step: Step, begin, end, by_logit: tf.Tensor | None = None) -> Drawn:
        """Goes through the places from `begin` on, before `end`.

        Args:
            step: (place, bool [B, C] what may fill it, penalty) -> (is_picked, its
                chance, its error).
            begin, end: places.
            by_logit: bool [B, C], what is left where places go by logit alone, all of
                which the rules allow together.
        """
        begin = tf.convert_to_tensor(begin)
        size = tf.maximum(end - begin, 0)
        zeros = tf.zeros([tf.shape(self._logits)[0], size])
        is_drawn = by_logit is None
        state = self._rules.start() if is_drawn else ()

        def body(place, is_left, place_of, chances, errors, *state):
            is_open, penalty = is_left, 0.0
            if is_drawn:
                is_open = self._explored(is_left & self._rules.is_open(state))
                penalty = self._rules.penalty(state)
            is_picked, chance, error = step(place, is_open, penalty)
            here = tf.one_hot(place - begin, size)
            return (
                place + 1,
                is_left & ~is_picked,
                tf.where(is_picked, place, place_of),
                chances + chance[:, tf.newaxis] * here,
                errors + error[:, tf.newaxis] * here,
                *(self._rules.after(state, is_picked) if is_drawn else ()),
            )

        columns = tf.TensorShape([None, None])
        _, is_left, place_of, chances, errors, *state = tf.while_loop(
            lambda place, *_: place < end,
            body,
            [
                begin,
                self._is_candidate if is_drawn else by_logit,
                tf.fill(tf.shape(self._logits), -1),
                zeros,
                zeros,
                *state,
            ],
            # Of a static shape only what all have: a step may know more or less of it.
            shape_invariants=[
                tf.TensorShape([]),
                *[columns] * 4,
                *(self._rules.shapes() if is_drawn else []),
            ],
        )
        return Drawn(is_left, place_of, chances, errors, tuple(state))

    def _explored(self, is_open: tf.Tensor) -> tf.Tensor:
        """Returns those of the explored columns; of all, once these are used up."""
        explored = is_open & self._is_explored
        return tf.where(
            tf.reduce_any(explored, axis=1, keepdims=True), explored, is_open
        )

    def _mixed(self, is_picked, is_open, place, penalty):
        chance, error = self._choice.chance(is_picked, is_open, place, penalty)
        if not self._epsilon:
            return chance, error
        num_left = tf.reduce_sum(tf.cast(is_open, tf.float32), axis=1)
        is_any = tf.cast(tf.reduce_any(is_picked, axis=1), tf.float32)
        share = tf.math.divide_no_nan(is_any, num_left)
        kept = 1.0 - self._epsilon
        return kept * chance + self._epsilon * share, kept * error

    def _is_random(self, place: tf.Tensor) -> tf.Tensor:
        coins = place_seeds(self._seeds, place, Stream.COIN)
        no_item = tf.zeros([tf.shape(self._seeds)[0], 1], tf.int64)
        return uniform_noise(coins, no_item)[:, 0] < self._epsilon

    def _random_item(self, is_open: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        seeds = place_seeds(self._seeds, place, Stream.RANDOM_ITEM)
        return largest(uniform_noise(seeds, self._keys), is_open)


def best_first(logits: tf.Tensor, is_candidate: tf.Tensor) -> tf.Tensor:
    """Returns [B, C] int32: columns by logit, of equal ones the first; others last."""
    least = logits.dtype.min
    return tf.argsort(
        tf.where(is_candidate, logits, least),
        axis=1,
        direction="DESCENDING",
        stable=True,
    )
