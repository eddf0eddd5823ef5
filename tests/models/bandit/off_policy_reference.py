"""The off-policy formulas once more, in plain loops, and a world that can be enumerated."""

import dataclasses
import itertools
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class World:
    """A bandit whose every outcome has a known chance.

    contexts have chances `context`, [X]; both policies and the mean rewards, of which
    each is 0 or 1, are [X, A].
    """

    context: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    reward: np.ndarray

    @classmethod
    def drawn(cls, seed, num_contexts=3, num_actions=4):
        rng = np.random.default_rng(seed)

        def shares(*size):
            raw = rng.random(size) + 0.1
            return raw / raw.sum(axis=-1, keepdims=True)

        size = (num_contexts, num_actions)
        return cls(
            shares(num_contexts),
            shares(*size),
            shares(*size),
            rng.uniform(0.1, 0.9, size),
        )

    @property
    def value(self):
        """The mean reward of the target policy."""
        return float((self.context[:, None] * self.target * self.reward).sum())

    def outcomes(self):
        """Yields (chance, context, action, reward) of all that can happen in a round."""
        contexts, actions = self.logging.shape
        for x, a, r in itertools.product(range(contexts), range(actions), (0, 1)):
            mean = self.reward[x, a]
            chance = self.context[x] * self.logging[x, a] * (mean if r else 1 - mean)
            yield chance, x, a, r

    def log(self, num_rounds, seed):
        """Returns (contexts, actions, rewards), [N] each."""
        rng = np.random.default_rng(seed)
        contexts = rng.choice(len(self.context), num_rounds, p=self.context)
        actions = np.array(
            [rng.choice(self.logging.shape[1], p=self.logging[x]) for x in contexts]
        )
        rewards = (rng.random(num_rounds) < self.reward[contexts, actions]).astype(
            float
        )
        return contexts, actions, rewards


def estimate(name, rewards, weights, q_logged, q_target, parameter):
    """Returns an estimate as the papers write it, a round at a time."""
    n = len(rewards)
    mean_weight = sum(weights) / n
    total = 0.0
    for r, w, q, direct in zip(rewards, weights, q_logged, q_target, strict=True):
        if name == "ips":
            total += w * r
        elif name == "clipped_ips":
            total += (w if w < parameter else parameter) * r
        elif name == "snips":
            total += w * r / mean_weight
        elif name == "sg_ips":
            total += w / ((1 - parameter) + parameter * w) * r
        elif name == "dm":
            total += direct
        elif name == "dr":
            total += direct + w * (r - q)
        elif name == "clipped_dr":
            total += direct + (w if w < parameter else parameter) * (r - q)
        elif name == "sndr":
            total += direct + w * (r - q) / mean_weight
        elif name == "switch_dr":
            total += direct + (w * (r - q) if w <= parameter else 0.0)
        elif name == "dros":
            total += direct + parameter * w / (w * w + parameter) * (r - q)
        elif name == "sg_dr":
            total += direct + w / ((1 - parameter) + parameter * w) * (r - q)
        else:
            raise KeyError(name)
    return total / n


def variance_by_model(world, q):
    """Returns E_x[(pi_e o (q - reward))' Omega (pi_e o (q - reward))], Omega in full."""
    total = 0.0
    for x, chance in enumerate(world.context):
        size = len(q[x])
        omega = np.diag(1 / world.logging[x]) - np.ones((size, size))
        away = world.target[x] * (q[x] - world.reward[x])
        total += chance * float(away @ omega @ away)
    return total


def slate_weights(ratios, slates, positions, model):
    """Returns [N] weights of places, each by looking for the others of its slate."""
    weights = []
    for slate, position in zip(slates, positions, strict=True):
        product = 1.0
        for ratio, other, place in zip(ratios, slates, positions, strict=True):
            counts = {
                "independent": place == position,
                "cascade": place <= position,
                "whole": True,
            }[model]
            if other == slate and counts:
                product *= ratio
        weights.append(product)
    return np.array(weights)


def clustered_error(shares, users):
    """Returns the standard error of a mean whose users are independent."""
    mean = sum(shares) / len(shares)
    square = 0.0
    names = sorted(set(users))
    for name in names:
        inside = [s - mean for s, u in zip(shares, users, strict=True) if u == name]
        square += sum(inside) ** 2
    return math.sqrt(square * len(names) / (len(names) - 1)) / len(shares)
