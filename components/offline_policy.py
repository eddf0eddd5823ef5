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
    RANDOM_ITEM,
    SHARED_DRAW,
    SHARED_SAMPLES,
    gumbel,
    place_seed,
    uniform,
)
from models.policy.slate import EXPLORED_PLACES
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
) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidates by the policy.

    Args:
        logits: [C].
        keys: [C] int64 naming the items.
        seed, policy, num_places, num_explored: as of `models.policy.select_slate`.
        beliefs: [C, ...] each, by the outputs of a ranker's signature `posterior`.

    Returns:
        (order, propensities), both [C], the propensities in that order.
    """
    if policy.name is PolicyName.UCB:
        logits = logits + policy.alpha * beliefs["deviations"]
    by_logit = np.argsort(-logits, kind="stable")
    is_drawn = policy.epsilon or policy.name is PolicyName.THOMPSON
    if not is_drawn and policy.name is not PolicyName.SOFTMAX:
        return by_logit, np.ones(len(logits))
    choice: _Choice = _Best(logits)
    if policy.name is PolicyName.SOFTMAX:
        choice = _Softmax(logits / policy.temperature, gumbel(seed, keys))
    elif policy.name is PolicyName.THOMPSON:
        choice = _Thompson(beliefs, seed, keys, policy)
    num_drawn, left = len(logits), np.arange(len(logits))
    if is_drawn:
        left = left[:num_explored]
        limit = len(logits) if num_places is None else num_places
        num_drawn = min(limit, len(left), EXPLORED_PLACES)
    if policy.epsilon:
        choice = _WithFloor(choice, policy.epsilon, seed, keys)
    order, propensities = [], []
    for place in range(num_drawn):
        column = int(choice.pick(left, place))
        order.append(column)
        propensities.append(float(choice.chance(column, left, place)))
        left = left[left != column]
    rest = [column for column in by_logit if column not in order]
    return np.array(order + rest), np.array(propensities + [1.0] * len(rest))


class _Choice(Protocol):
    def pick(self, left: np.ndarray, place: int) -> int: ...

    def chance(self, column: int, left: np.ndarray, place: int) -> float: ...


class _Best:
    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    def pick(self, left: np.ndarray, place: int) -> int:
        return left[np.argmax(self._scores[left])]

    def chance(self, column: int, left: np.ndarray, place: int) -> float:
        return float(column == self.pick(left, place))


class _Softmax:
    def __init__(self, scaled: np.ndarray, noise: np.ndarray) -> None:
        self._scaled = scaled
        self._noisy = scaled + noise

    def pick(self, left: np.ndarray, place: int) -> int:
        return left[np.argmax(self._noisy[left])]

    def chance(self, column: int, left: np.ndarray, place: int) -> float:
        return 1.0 / np.exp(self._scaled[left] - self._scaled[column]).sum()


class _WithFloor:
    def __init__(
        self, choice: _Choice, epsilon: float, seed: int, keys: np.ndarray
    ) -> None:
        self._choice = choice
        self._epsilon = epsilon
        self._seed = seed
        self._keys = keys

    def pick(self, left: np.ndarray, place: int) -> int:
        coin = uniform(place_seed(self._seed, place, COIN), np.zeros(1, np.int64))
        if coin[0] >= self._epsilon:
            return self._choice.pick(left, place)
        noise = uniform(place_seed(self._seed, place, RANDOM_ITEM), self._keys)
        return left[np.argmax(noise[left])]

    def chance(self, column: int, left: np.ndarray, place: int) -> float:
        chosen = self._choice.chance(column, left, place)
        return (1 - self._epsilon) * chosen + self._epsilon / len(left)


class _Thompson:
    def __init__(
        self, beliefs: Beliefs, seed: int, keys: np.ndarray, policy: PolicySettings
    ) -> None:
        self._beliefs = beliefs
        self._seed = seed
        self._keys = keys
        self._policy = policy

    def pick(self, left: np.ndarray, place: int) -> int:
        means, deviations = self._drawn(place, SHARED_DRAW, 1)
        seed = place_seed(self._seed, place, ITEM_DRAW)
        noise = special.ndtri(uniform(seed, self._keys))
        return left[np.argmax((means[0] + deviations[0] * noise)[left])]

    def chance(self, column: int, left: np.ndarray, place: int) -> float:
        numbers = np.arange(self._policy.propensity_samples)
        means, deviations = self._drawn(place, SHARED_SAMPLES, len(numbers))
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
