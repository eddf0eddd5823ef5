"""How much does a doubly robust estimate vary, by how its reward model was fitted?

A bandit of five actions whose rewards are no linear function of the features that a linear
reward model reads. The part of DR's variance that the model decides,

    E_x[(pi_e o (q_hat - q))' Omega (pi_e o (q_hat - q))]

is computed on 20,000 fresh contexts with the true rewards' means, for models fitted to
logs of growing length: by least squares, by weights pi_e / pi_b, by Open Bandit Pipeline's
MRDR weight, by its square, and by MRDR's whole objective. For a target policy that chooses
at random, and for one that hardly does. Figures are of the longest log, where what a fit
aims at decides; the plots show what its noise costs in shorter ones. Mean of 40 worlds, with
95 % intervals by drawing worlds; differences are paired.
"""

import dataclasses
import platform
import sys
import time
from collections.abc import Mapping

import numpy as np
from sklearn.linear_model import LinearRegression

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.ope_bandits import drawn_actions
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of
from models.bandit import mrdr

ACTIONS, DIMENSIONS, FRESH = 5, 4, 20_000
FULL_SIZES, FULL_WORLDS = (1_000, 4_000, 16_000, 64_000, 256_000), 40
QUICK_SIZES, QUICK_WORLDS = (1_000, 16_000), 10
EXPLORED = 0.2  # of rounds, in which the logging policy picks any action
POLICIES = {"stochastic": 2.0, "near_deterministic": 20.0}  # how steep a softmax is
FITS = ("ols", "iw", "obp", "squared", "full")
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class World:
    """A bandit with known mean rewards.

    Attributes:
        liking: [A, D] what makes an action's reward.
        logging, target: [A, D] of the policies' softmaxes.
        steepness: of the target's.
    """

    liking: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    steepness: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, steepness: float) -> "World":
        size = (3, ACTIONS, DIMENSIONS)
        return cls(*rng.normal(size=size) / np.sqrt(DIMENSIONS), steepness)

    def means(self, contexts: np.ndarray) -> np.ndarray:
        """Returns [N, A] mean rewards in (0, 1), not linear in the contexts."""
        likes = contexts @ self.liking.T
        return 1 / (1 + np.exp(-(likes + likes**2 - 1)))

    def shares(self, contexts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (pi_e, pi_b), [N, A] each; the logging policy explores."""
        target = _softmax(self.steepness * contexts @ self.target.T)
        logging = _softmax(2 * contexts @ self.logging.T)
        return target, (1 - EXPLORED) * logging + EXPLORED / ACTIONS


def _softmax(logits: np.ndarray) -> np.ndarray:
    raw = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raw / raw.sum(axis=1, keepdims=True)


def features_of(contexts: np.ndarray) -> np.ndarray:
    """Returns [N, A, D + A]: the context beside the action, without their products."""
    n = len(contexts)
    each = np.broadcast_to(contexts[:, np.newaxis], (n, ACTIONS, DIMENSIONS))
    one_hot = np.broadcast_to(np.eye(ACTIONS), (n, ACTIONS, ACTIONS))
    return np.concatenate([each, one_hot], axis=2)


def model_variance(
    q: np.ndarray, means: np.ndarray, target: np.ndarray, logging: np.ndarray
) -> float:
    """Returns the mean over contexts of (pi_e o (q - means))' Omega (pi_e o (q - means))."""
    away = target * (q - means)
    return float(((away**2 / logging).sum(axis=1) - away.sum(axis=1) ** 2).mean())


def variances(world: World, rng: np.random.Generator, size: int) -> list[float]:
    """Returns the variance that each of `FITS` leaves, in their order.

    Args:
        world: what earns how much.
        rng: draws the log.
        size: rounds of the log.
    """
    contexts = rng.normal(size=(size, DIMENSIONS))
    target, logging = world.shares(contexts)
    actions = drawn_actions(logging, rng)
    rounds = np.arange(size)
    rewards = (rng.random(size) < world.means(contexts)[rounds, actions]).astype(float)
    features = features_of(contexts)
    chosen, shown = target[rounds, actions], logging[rounds, actions]
    fresh = rng.normal(size=(FRESH, DIMENSIONS))
    fresh_features, means = features_of(fresh), world.means(fresh)
    shares = world.shares(fresh)

    def regressed(weights: np.ndarray | None) -> np.ndarray:
        model = LinearRegression().fit(features[rounds, actions], rewards, weights)
        return fresh_features @ model.coef_ + model.intercept_

    def full() -> np.ndarray:
        fitted = mrdr.fit_mrdr(features, actions, rewards, target, logging)
        return fitted.predict(fresh_features)

    fits = {
        "ols": regressed(None),
        "iw": regressed(chosen / shown),
        "obp": regressed(mrdr.weights(chosen, shown, compat="obp")),
        "squared": regressed(mrdr.weights(chosen, shown)),
        "full": full(),
    }
    return [model_variance(fits[name], means, *shares) for name in FITS]


def figures(
    found: Mapping[str, Mapping[int, np.ndarray]], seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns (figures, intervals).

    Args:
        found: variances [worlds, fits] by policy and size of the log.
        seed: of the worlds drawn.
    """
    values, intervals = {}, {}
    rng = np.random.default_rng(seed)

    def note(key: str, each: np.ndarray) -> None:
        rows = rng.integers(0, len(each), (_RESAMPLES, len(each)))
        low, high = np.quantile(each[rows].mean(axis=1), (0.025, 0.975))
        values[key] = float(each.mean())
        intervals[key] = (float(min(low, each.mean())), float(max(high, each.mean())))

    for policy, by_size in found.items():
        table = by_size[max(by_size)]
        for name, column in zip(FITS, table.T, strict=True):
            note(f"variance_{name}_{policy}", column)
        by_name = dict(zip(FITS, table.T, strict=True))
        for better, worse in (("full", "squared"), ("squared", "obp"), ("obp", "ols")):
            difference = by_name[worse] - by_name[better]
            note(f"{worse}_minus_{better}_{policy}", difference)
        for size, rows in by_size.items():
            for name, column in zip(FITS, rows.T, strict=True):
                if size != max(by_size):
                    values[f"variance_{name}_{policy}_{size}"] = float(column.mean())
    return values, intervals


def plots(found: Mapping[str, Mapping[int, np.ndarray]]) -> list[Plot]:
    """Returns the variances by the size of the log, a plot of each policy."""
    return [
        Plot(
            name=policy,
            title=f"What a reward model adds to DR's variance, {policy} target",
            x_label="rounds in the log",
            y_label="variance",
            series={
                name: [
                    (size, float(rows[:, place].mean()))
                    for size, rows in by_size.items()
                ]
                for place, name in enumerate(FITS)
            },
            log_x=True,
        )
        for policy, by_size in found.items()
    ]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("dr_variance", __doc__)
    begin = time.monotonic()
    sizes = QUICK_SIZES if arguments.quick else FULL_SIZES
    worlds = QUICK_WORLDS if arguments.quick else FULL_WORLDS
    found: dict[str, dict[int, np.ndarray]] = {}
    for policy, steepness in POLICIES.items():
        found[policy] = {}
        for size in sizes:
            say(f"{policy}, {size:,} rounds")
            rows = []
            for number in range(worlds):
                rng = np.random.default_rng([arguments.seed, number])
                rows.append(variances(World.drawn(rng, steepness), rng, size))
            found[policy][size] = np.array(rows)
    values, intervals = figures(found)
    result = Result(
        name="dr_variance",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("scikit-learn", "scipy", "numpy"),
        },
        data={
            "worlds": worlds,
            "actions": ACTIONS,
            "rounds": list(sizes),
            "fresh_contexts": FRESH,
            "explored": EXPLORED,
            "policies": POLICIES,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot.model_dump() for plot in plots(found)],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
