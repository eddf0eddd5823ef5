"""The policies of `models.policy`, in NumPy, for one request.

What fills a place has two methods, as in `models.policy.choice`: `pick` draws one of the
columns left, `chance` is the probability with which it draws a given one.
"""

from typing import Protocol

import numpy as np
from scipy import special

from components.offline_noise import (
    COIN,
    ITEM_DRAW,
    OWN_SAMPLES,
    PLACE_NOISE,
    RANDOM_ITEM,
    SHARED_DRAW,
    SHARED_SAMPLES,
    gumbel,
    place_seed,
    uniform,
)
from components.offline_rules import OfflineRules
from models.policy.walk import EXPLORED_PLACES
from models.policy_settings import Draw, PolicyName, PolicySettings

Beliefs = dict[str, np.ndarray]


def choose(
    logits: np.ndarray,
    keys: np.ndarray,
    seed: int,
    policy: PolicySettings,
    num_places: int | None = None,
    num_explored: int | None = None,
    beliefs: Beliefs | None = None,
    rules: OfflineRules | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidates by the policy.

    Args:
        logits: [C].
        keys: [C] int64 naming the items.
        seed, policy, num_places, num_explored: as of `models.policy.select_slate`.
        beliefs: [C, ...] each, by the outputs of a ranker's signature `posterior`.
        rules: what the items above mean for those below; it is told what is shown.

    Returns:
        (order, propensities), both [C], or shorter where the rules leave out some; the
        propensities in that order.
    """
    if policy.name is PolicyName.UCB:
        logits = logits + policy.alpha * beliefs["deviations"]
    by_logit = np.argsort(-logits, kind="stable")
    is_drawn = policy.epsilon or policy.name is PolicyName.THOMPSON
    is_softmax = policy.name is PolicyName.SOFTMAX
    if not (is_drawn or is_softmax or rules):
        return by_logit, np.ones(len(logits))
    choice: _Choice = _Best(logits)
    if is_softmax:
        is_fresh = rules is not None and rules.has_diversity
        choice = _Softmax(logits, policy.temperature, seed, keys, is_fresh)
    elif policy.name is PolicyName.THOMPSON:
        choice = _Thompson(beliefs, seed, keys, policy)
    num_drawn, left = len(logits), np.arange(len(logits))
    explored = left
    if is_drawn or rules:
        limit = len(logits) if num_places is None else num_places
        if is_drawn or is_softmax:
            explored = left[:num_explored]
        num_drawn = min(limit, len(left), EXPLORED_PLACES)
        if not rules:
            num_drawn = min(num_drawn, len(explored))
    if policy.epsilon:
        choice = _WithFloor(choice, policy.epsilon, seed, keys)
    order: list[int] = []
    propensities: list[float] = []
    penalty = np.zeros(len(logits))
    for place in range(num_drawn):
        allowed = left
        if rules:
            allowed = np.array([c for c in left if rules.is_open(c)], np.int64)
            penalty = rules.penalty
        if not len(allowed):
            break
        first = allowed[np.isin(allowed, explored)]
        allowed = first if len(first) else allowed
        column = int(choice.pick(allowed, place, penalty))
        order.append(column)
        propensities.append(float(choice.chance(column, allowed, place, penalty)))
        left = left[left != column]
        if rules:
            rules.show(column)
    rest = [column for column in by_logit.tolist() if column not in order]
    if rules:
        rest = rules.fitting(rest)
    return np.array(order + rest), np.array(propensities + [1.0] * len(rest))


class _Choice(Protocol):
    def pick(self, left: np.ndarray, place: int, penalty: np.ndarray) -> int: ...

    def chance(
        self, column: int, left: np.ndarray, place: int, penalty: np.ndarray
    ) -> float: ...


class _Best:
    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    def pick(self, left: np.ndarray, place: int, penalty: np.ndarray) -> int:
        return left[np.argmax((self._scores - penalty)[left])]

    def chance(
        self, column: int, left: np.ndarray, place: int, penalty: np.ndarray
    ) -> float:
        return float(column == self.pick(left, place, penalty))


class _Softmax:
    def __init__(
        self,
        logits: np.ndarray,
        temperature: float,
        seed: int,
        keys: np.ndarray,
        is_fresh: bool,
    ) -> None:
        self._logits = logits
        self._temperature = temperature
        self._seed = seed
        self._keys = keys
        self._is_fresh = is_fresh

    def pick(self, left: np.ndarray, place: int, penalty: np.ndarray) -> int:
        seed = self._seed
        if self._is_fresh:
            seed = place_seed(seed, place, PLACE_NOISE)
        noise = gumbel(seed, self._keys)
        return left[np.argmax((self._scaled(penalty) + noise)[left])]

    def chance(
        self, column: int, left: np.ndarray, place: int, penalty: np.ndarray
    ) -> float:
        scaled = self._scaled(penalty)
        return 1.0 / np.exp(scaled[left] - scaled[column]).sum()

    def _scaled(self, penalty: np.ndarray) -> np.ndarray:
        return (self._logits - penalty) / self._temperature


class _WithFloor:
    def __init__(
        self, choice: _Choice, epsilon: float, seed: int, keys: np.ndarray
    ) -> None:
        self._choice = choice
        self._epsilon = epsilon
        self._seed = seed
        self._keys = keys

    def pick(self, left: np.ndarray, place: int, penalty: np.ndarray) -> int:
        coin = uniform(place_seed(self._seed, place, COIN), np.zeros(1, np.int64))
        if coin[0] >= self._epsilon:
            return self._choice.pick(left, place, penalty)
        noise = uniform(place_seed(self._seed, place, RANDOM_ITEM), self._keys)
        return left[np.argmax(noise[left])]

    def chance(
        self, column: int, left: np.ndarray, place: int, penalty: np.ndarray
    ) -> float:
        chosen = self._choice.chance(column, left, place, penalty)
        return (1 - self._epsilon) * chosen + self._epsilon / len(left)


class _Thompson:
    def __init__(
        self, beliefs: Beliefs, seed: int, keys: np.ndarray, policy: PolicySettings
    ) -> None:
        self._beliefs = beliefs
        self._seed = seed
        self._keys = keys
        self._policy = policy

    def pick(self, left: np.ndarray, place: int, penalty: np.ndarray) -> int:
        means, deviations = self._drawn(place, SHARED_DRAW, 1)
        seed = place_seed(self._seed, place, ITEM_DRAW)
        noise = special.ndtri(uniform(seed, self._keys))
        drawn = means[0] - penalty + deviations[0] * noise
        return left[np.argmax(drawn[left])]

    def chance(
        self, column: int, left: np.ndarray, place: int, penalty: np.ndarray
    ) -> float:
        numbers = np.arange(self._policy.propensity_samples)
        means, deviations = self._drawn(place, SHARED_SAMPLES, len(numbers))
        means = means - penalty
        within = uniform(place_seed(self._seed, place, OWN_SAMPLES), numbers)
        slices = special.ndtri((numbers + within) / len(numbers))[:, np.newaxis]
        own = means[:, [column]] + deviations[:, [column]] * slices
        others = left[left != column]
        below = special.log_ndtr((own - means[:, others]) / deviations[:, others])
        return float(np.exp(below.sum(axis=1)).mean())

    def _drawn(
        self, place: int, use: int, num_draws: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns means and deviations, [S, C]."""
        beliefs, alpha = self._beliefs, self._policy.alpha
        means = np.tile(beliefs["means"], [num_draws, 1])
        if self._policy.draw is Draw.LOGIT:
            return means, alpha * np.tile(beliefs["deviations"], [num_draws, 1])
        shared = beliefs["shared_deviations"][0]  # a row of it for each candidate
        numbers = np.arange(num_draws * len(shared))
        noise = special.ndtri(uniform(place_seed(self._seed, place, use), numbers))
        shift = alpha * shared * noise.reshape(num_draws, -1)
        variances = (
            beliefs["variances"]
            + 2 * shift @ beliefs["variance_slopes"].T
            + shift**2 @ beliefs["variance_curvatures"].T
        )
        means = means + shift @ beliefs["slopes"].T
        return means, alpha * np.sqrt(np.maximum(variances, 0))
