"""Chapelle and Li's simulation, small: which rule for choosing ads loses the fewest clicks?

An ad's click has a logit that is a sum of weights: of everything, of the ad, of the
user's group, and of both together. Every hour brings users, each with a few ads that may
be shown; a policy chooses by a posterior that was updated an hour, or many hours, ago.
All policies share the model, Tandem's update without interactions: what differs is the
rule.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.bandit import laplace
from models.bandit.laplace import Beliefs, Entries

BIAS = -2.0
DEVIATIONS = {
    "ad": 0.7,
    "group": 0.3,
    "both": 0.7,
}  # of the true weights, and the prior
INTERVAL = 1.96  # standard deviations to either side: 95 %


@dataclasses.dataclass(frozen=True)
class Ads:
    """The size of the simulation."""

    ads: int = 60
    groups: int = 10
    eligible: int = 20
    users: int = 500  # an hour
    hours: int = 80


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one policy did in one world.

    Attributes:
        regret: share of the clicks that the best choices would have brought, lost.
        hourly: [hours], clicks lost until each hour, the expected ones.
        coverage: share of shown ads whose true logit lay in the posterior's 95 % interval,
            in the last hour.
    """

    regret: float
    hourly: np.ndarray
    coverage: float


class World:
    """The true weights, and the rows of the table that a choice touches.

    Args:
        size: of the simulation.
        rng: draws the weights.
    """

    def __init__(self, size: Ads, rng: np.random.Generator) -> None:
        self.size = size
        counts = {"ad": size.ads, "group": size.groups, "both": size.ads * size.groups}
        deviations = np.concatenate(
            [np.full(counts[name], DEVIATIONS[name]) for name in counts]
        )
        self.weights = np.concatenate(
            [[BIAS], deviations * rng.normal(size=deviations.size)]
        )
        self.precisions = np.concatenate([[0.04], deviations**-2.0])

    def rows(self, groups: np.ndarray, ads: np.ndarray) -> np.ndarray:
        """Returns [..., 3] rows of the table."""
        groups, ads = np.broadcast_arrays(groups, ads)
        first_group = 1 + self.size.ads
        first_both = first_group + self.size.groups
        both = first_both + groups * self.size.ads + ads
        return np.stack([1 + ads, first_group + groups, both], axis=-1)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Returns the true logits [...]."""
        return self.weights[0] + self.weights[rows].sum(axis=-1)


def chosen(
    policy: str,
    means: np.ndarray,
    deviations: np.ndarray,
    rng: np.random.Generator,
    parameter: float,
) -> np.ndarray:
    """Returns [N] columns of [N, E] that a policy shows.

    Args:
        policy: `thompson`, `lin_ucb`, `epsilon_greedy`, `exploit` or `random`.
        means, deviations: [N, E], of the logits.
        rng: of what is drawn.
        parameter: alpha of the first two, epsilon of the third.
    """
    if policy == "thompson":
        drawn = means + parameter * deviations * rng.normal(size=means.shape)
        return drawn.argmax(axis=1)
    if policy == "lin_ucb":
        return (means + parameter * deviations).argmax(axis=1)
    at_random = rng.integers(0, means.shape[1], len(means))
    if policy == "random":
        return at_random
    explores = rng.random(len(means)) < (parameter if policy == "epsilon_greedy" else 0)
    return np.where(explores, at_random, means.argmax(axis=1))


def simulated(
    policy: str, size: Ads, seed: int, parameter: float = 0.0, delay: int = 1
) -> Outcome:
    """Runs one policy in the world of a seed.

    Args:
        policy, parameter: as of `chosen`.
        size: of the simulation.
        seed: of the world and the users; the policies of a seed see the same users.
        delay: hours until an hour's clicks are learnt.
    """
    world = World(size, np.random.default_rng([seed, 0]))
    users, luck = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    beliefs = Beliefs(
        tf.zeros([len(world.weights), 1]),
        tf.constant(world.precisions[:, np.newaxis], tf.float32),
    )
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    lost, best, hourly = 0.0, 0.0, []
    for _ in range(size.hours):
        groups = users.integers(0, size.groups, size.users)
        order = users.random((size.users, size.ads)).argsort(axis=1)
        rows = world.rows(groups[:, np.newaxis], order[:, : size.eligible])
        means, deviations = _logits(beliefs, rows)
        column = chosen(policy, means, deviations, luck, parameter)
        truth = world.logits(rows)
        clicks = 1 / (1 + np.exp(-truth))
        shown = np.arange(size.users), column
        lost += float((clicks.max(axis=1) - clicks[shown]).sum())
        best += float(clicks.max(axis=1).sum())
        hourly.append(lost)
        clicked = users.random(size.users) < clicks[shown]
        waiting.append((rows[shown], clicked.astype(np.float32)))
        if len(waiting) >= delay:
            beliefs = _learnt(beliefs, *waiting.pop(0))
    away = np.abs(truth - means)[shown]
    is_covered = away < INTERVAL * deviations[shown]
    return Outcome(lost / best, np.array(hourly), float(is_covered.mean()))


def _logits(beliefs: Beliefs, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means, precisions = (np.asarray(table)[:, 0] for table in beliefs)
    variances = 1 / precisions[0] + (1 / precisions[rows]).sum(axis=-1)
    return means[0] + means[rows].sum(axis=-1), np.sqrt(variances)


def _learnt(beliefs: Beliefs, rows: np.ndarray, clicks: np.ndarray) -> Beliefs:
    return Beliefs(*_update(*beliefs, tf.constant(rows), tf.constant(clicks)))


@tf.function(reduce_retracing=True)
def _update(means, precisions, rows, clicks) -> Sequence[tf.Tensor]:
    one = tf.ones(tf.shape(rows)[:1])[:, tf.newaxis]
    fields = [Entries(rows[:, place, tf.newaxis], one, one) for place in range(3)]
    return laplace.updated(
        Beliefs(means, precisions), fields, clicks, newton_steps=2, solver_steps=8
    )
