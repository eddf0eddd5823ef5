"""How far from the truth is each off-policy estimator, and do its intervals hold it?

Four classification sets that scikit-learn ships, as bandits (`benchmarks/ope_bandits.py`):
a log of one class tried per row, by a policy that follows a classifier four times in ten,
tells the value of one that follows a better classifier nine times in ten. 50 seeds each,
which split the rows, train the policies and draw the log. The reward model is a logistic
regression on the context beside the action, without any product of the two: as wrong as
reward models are. Three folds. Parameters by SLOPE.

`rmse_E` is the root mean squared error of an estimator over all sets and seeds, with 95 %
intervals by drawing seeds; `rmse_E_SET` of one set. `coverage_E` is how often the 95 %
bootstrap interval holds the truth. MRDR is fitted by its whole objective; `mrdr_squared` is
its fast path, a regression with weights, and `mrdr_obp` has Open Bandit Pipeline's.
"""

import dataclasses
import hashlib
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks import ope_bandits
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.ope_bandits import SETS, Bandit, drawn_bandit
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of
from models.bandit import mrdr
from models.bandit.estimators import Estimator
from models.bandit.off_policy import MRDR, Log, Target, evaluate
from models.bandit.off_policy_settings import OffPolicySettings
from models.bandit.reward_model import cross_fit, random_folds, splits

ROOT = Path(__file__).parents[1]
FULL_SEEDS, QUICK_SEEDS = 50, 5
QUICK_SETS = ("wine", "breast_cancer", "iris")
SETTINGS = OffPolicySettings(num_resamples=500)
RIDGE = 1e-2
_RESAMPLES = 1000
ROBUST = (MRDR, "mrdr_squared", "mrdr_obp")
NAMES = (*(e.value for e in Estimator), *ROBUST)


@dataclasses.dataclass(frozen=True)
class Errors:
    """What the estimators of one set came to.

    Attributes:
        errors: [seeds, E] estimate less truth, in the order of `NAMES`.
        covered: [seeds, E] whether the interval holds the truth.
    """

    errors: np.ndarray
    covered: np.ndarray


def reward_models(bandit: Bandit, seed: int) -> dict[str, np.ndarray]:
    """Returns q [N, A] of the plain model and of the robust ones."""
    rounds = np.arange(len(bandit.actions))
    folds = random_folds(len(rounds), SETTINGS.num_folds, seed)
    target, logging = (
        shares[rounds, bandit.actions] for shares in (bandit.target, bandit.logging)
    )
    model = LogisticRegression(max_iter=1000)

    def fitted(weights: np.ndarray | None = None) -> np.ndarray:
        given = (bandit.features, bandit.actions, bandit.rewards, folds)
        return cross_fit(model, *given, weights=weights)

    return {
        "plain": fitted(),
        MRDR: _full(bandit, folds),
        "mrdr_squared": fitted(_of_mean_1(mrdr.weights(target, logging))),
        "mrdr_obp": fitted(_of_mean_1(mrdr.weights(target, logging, compat="obp"))),
    }


def _of_mean_1(weights: np.ndarray) -> np.ndarray:
    """Weights scale the loss against scikit-learn's ridge; the ridge should not move."""
    return weights / weights.mean()


def _full(bandit: Bandit, folds: np.ndarray) -> np.ndarray:
    q = np.zeros(bandit.target.shape)
    for fitted, predicted in splits(folds):
        model = mrdr.fit_mrdr(
            bandit.features.of_all(fitted),
            bandit.actions[fitted],
            bandit.rewards[fitted],
            bandit.target[fitted],
            bandit.logging[fitted],
            mrdr.Link.LOGISTIC,
            RIDGE,
        )
        q[predicted] = model.predict(bandit.features.of_all(predicted))
    return q


def errors_of(bandit: Bandit, q: Mapping[str, np.ndarray]) -> tuple[list, list]:
    """Returns (errors, whether covered) [E] of one log, in the order of `NAMES`."""
    rounds = np.arange(len(bandit.actions))
    log = Log(
        bandit.rewards,
        bandit.logging[rounds, bandit.actions],
        rounds,
        np.zeros(len(rounds), np.int64),
    )

    def both(name: str) -> tuple[np.ndarray, np.ndarray]:
        expected = (bandit.target * q[name]).sum(axis=1)
        return q[name][rounds, bandit.actions], expected

    target = bandit.target[rounds, bandit.actions]
    found = evaluate(log, Target(target, *both("plain")), SETTINGS).estimates
    for name in ROBUST:
        robust = Target(target, *both(name))
        only = evaluate(log, robust, SETTINGS, estimators=[Estimator.DR])
        found[name] = only.estimates["dr"]
    errors = [found[name].value - bandit.value for name in NAMES]
    covered = [found[name].low <= bandit.value <= found[name].high for name in NAMES]
    return errors, covered


def measured(name: str, seeds: Iterable[int]) -> Errors:
    """Returns what all seeds of a set come to."""
    rows = []
    for seed in seeds:
        bandit = drawn_bandit(name, seed)
        rows.append(errors_of(bandit, reward_models(bandit, seed)))
    errors, covered = zip(*rows, strict=True)
    return Errors(np.array(errors), np.array(covered, float))


def kept(file: Path, name: str, seeds: Iterable[int]) -> Errors:
    """Returns the `measured` in a file, which is written first where it is not there."""
    if not file.exists():
        say(f"{name}")
        found = measured(name, seeds)
        temporary = file.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, **dataclasses.asdict(found))
        temporary.replace(file)
    with np.load(file) as arrays:
        return Errors(**{key: arrays[key] for key in arrays.files})


def figures(
    found: Mapping[str, Errors], seed: int = 0
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns (figures, intervals); sets count alike, however large they are.

    Args:
        found: by set.
        seed: of the seeds drawn for the intervals.
    """
    squares = np.stack([each.errors**2 for each in found.values()])  # [sets, seeds, E]
    covered = np.stack([each.covered for each in found.values()])
    num_seeds = squares.shape[1]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), _RESAMPLES)
    by_seed = squares.mean(axis=0)  # [seeds, E]
    resampled = np.sqrt(drawn @ by_seed / num_seeds)  # [resamples, E]
    values, intervals = {}, {}

    def note(key: str, value: float, draws: np.ndarray) -> None:
        low, high = np.quantile(draws, (0.025, 0.975))
        values[key] = float(value)
        intervals[key] = (float(min(low, value)), float(max(high, value)))

    root = np.sqrt(by_seed.mean(axis=0))
    place = {name: number for number, name in enumerate(NAMES)}
    for name, number in place.items():
        note(f"rmse_{name}", root[number], resampled[:, number])
    for name, other in ((MRDR, "dr"), ("dr", "ips"), ("ips", "dm")):
        a, b = place[name], place[other]
        note(
            f"rmse_{name}_by_{other}",
            root[a] / root[b],
            resampled[:, a] / resampled[:, b],
        )
    for name, number in place.items():
        note(
            f"coverage_{name}",
            covered[:, :, number].mean(),
            drawn @ covered[:, :, number].mean(axis=0) / num_seeds,
        )
    for which, each in zip(found, squares, strict=True):
        for name, number in place.items():
            values[f"rmse_{name}_{which}"] = float(np.sqrt(each[:, number].mean()))
    for which, each in zip(found, covered, strict=True):
        for name in ("ips", "snips", "dr", MRDR):
            key = f"coverage_{name}_{which}"
            values[key] = float(each[:, place[name]].mean())
    return values, intervals


def plots(values: Mapping[str, float], sets: Iterable[str]) -> list[Plot]:
    """Returns the errors of some estimators by set, in the order of IPS's error."""
    ordered = sorted(sets, key=lambda name: values[f"rmse_ips_{name}"])
    return [
        Plot(
            name="rmse",
            title="Error by set: " + ", ".join(ordered),
            x_label="set, from the smallest error of ips to the largest",
            y_label="RMSE",
            series={
                name: [
                    (place, values[f"rmse_{name}_{which}"])
                    for place, which in enumerate(ordered, 1)
                ]
                for name in ("dm", "ips", "snips", "dr", MRDR)
            },
        )
    ]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("ope_rmse", __doc__)
    warnings.simplefilter("ignore", ConvergenceWarning)
    begin = time.monotonic()
    sets = QUICK_SETS if arguments.quick else tuple(SETS)
    num_seeds = QUICK_SEEDS if arguments.quick else FULL_SEEDS
    sources = [Path(__file__), Path(ope_bandits.__file__)]
    sources += sorted((ROOT / "models" / "bandit").glob("*.py"))
    text = "".join(file.read_text() for file in sources)
    key = hashlib.sha256(f"{text}{num_seeds}{arguments.seed}".encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / "tandem-bench-ope"
    folder.mkdir(exist_ok=True)
    seeds = range(arguments.seed, arguments.seed + num_seeds)
    found = {
        name: kept(folder / f"rmse-{name}-{key}.npz", name, seeds) for name in sets
    }
    values, intervals = figures(found)
    result = Result(
        name="ope_rmse",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("scikit-learn", "scipy", "numpy"),
        },
        data={
            "sets": list(sets),
            "seeds": num_seeds,
            "logging_greed": ope_bandits.LOGGING_GREED,
            "target_greed": ope_bandits.TARGET_GREED,
            "evaluated_share": ope_bandits.EVALUATED_SHARE,
            "folds": SETTINGS.num_folds,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot.model_dump() for plot in plots(values, sets)],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
