"""Does exploring by a posterior pay, and does the Bayesian FM beat LinUCB?

Two simulations whose truth is known. `bandit_ads` is Chapelle and Li's, small: one model,
five rules, regret as a share of the clicks that the best choices bring. Each rule has three
settings, as in their table, and is represented by the best. Once more with feedback that
comes ten hours late, all ads eligible for everyone, where a rule without chance repeats
itself until it hears. `bandit_tastes` lets the Bayesian factorisation machine with Thompson
sampling, as the pipeline ships them, race LinUCB, disjoint and hybrid, each at its best
alpha of three, for the same users.

Intervals are of the mean over worlds, by drawing worlds; differences and ratios are paired.
"""

import argparse
import hashlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import bandit_ads, bandit_tastes
from benchmarks.bandit_ads import Ads
from benchmarks.bandit_tastes import Tastes, World
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of

RULES = {
    "thompson": (0.25, 0.5, 1.0),
    "lin_ucb": (0.5, 1.0, 2.0),
    "epsilon_greedy": (0.005, 0.01, 0.02),
    "exploit": (0.0,),
    "random": (0.0,),
}
DELAY = 10
DELAYED = {"thompson": 0.5, "lin_ucb": 1.0}
_RESAMPLES = 2000
_SCORED = 200  # candidates a request, where scoring is timed
_SECONDS = 3.0  # CPU time, at least, of what is timed

Table = dict[str, np.ndarray]  # a row for each world


def interval(each: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of [worlds], the mean inside."""
    rng = np.random.default_rng(seed)
    draws = each[rng.integers(0, len(each), (_RESAMPLES, len(each)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    mean = each.mean()
    return float(min(low, mean)), float(max(high, mean))


def best_of(found: Mapping[str, np.ndarray], family: str, sign: int) -> str:
    """Returns the key of a family, `<family>_<setting>`, whose mean is best.

    Args:
        found: [worlds, ...] by key.
        family: of the keys.
        sign: 1 where more is better, -1 where less is.
    """
    keys = [key for key in found if key.rpartition("_")[0] == family]
    return max(keys, key=lambda key: sign * found[key].mean())


def figures(
    regrets: Table, coverages: Table, late: Table, earned: Table
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns (figures, intervals).

    Args:
        regrets, coverages: [worlds] by `<rule>_<setting>`.
        late: [worlds], regret by `<rule>_<hours of delay>`.
        earned: [worlds, batches], clicks as shares, by learner, and of `best`.
    """
    values, intervals = {}, {}

    def note(key: str, each: np.ndarray) -> None:
        values[key] = float(each.mean())
        intervals[key] = interval(each)

    best = {rule: best_of(regrets, rule, -1) for rule in RULES}
    for rule, key in best.items():
        note(f"regret_{rule}", regrets[key])
    for better, worse in (
        ("thompson", "lin_ucb"),
        ("lin_ucb", "epsilon_greedy"),
        ("thompson", "epsilon_greedy"),
        ("epsilon_greedy", "random"),
    ):
        note(f"{worse}_minus_{better}", regrets[best[worse]] - regrets[best[better]])
    for key, each in regrets.items():
        values[f"regret_{key}"] = float(each.mean())
    for rule in ("thompson", "random"):
        note(f"coverage_{rule}", coverages[best[rule]])
    costs = {rule: late[f"{rule}_{DELAY}"] - late[f"{rule}_1"] for rule in DELAYED}
    for rule, cost in costs.items():
        for hours in (1, DELAY):
            note(f"regret_{rule}_after_{hours}_h", late[f"{rule}_{hours}"])
        note(f"delay_cost_{rule}", cost)
    worse = late[f"lin_ucb_{DELAY}"] - late[f"thompson_{DELAY}"]
    note(f"lin_ucb_minus_thompson_after_{DELAY}_h", worse)
    note("delay_cost_lin_ucb_minus_thompson", costs["lin_ucb"] - costs["thompson"])
    totals = {name: table.mean(axis=1) for name, table in earned.items()}
    linear = max(
        (best_of(totals, kind, 1) for kind in ("disjoint", "hybrid")),
        key=lambda key: totals[key].mean(),
    )
    note("bfm_over_linucb", totals["bfm"] / totals[linear])
    for name, total in totals.items():
        if name != "best":
            note(f"share_of_best_{name}", total / totals["best"])
    return values, intervals


def kept(folder: Path, key: str, measure: Callable[[], list]) -> list:
    """Returns what was measured, from the folder where it is there already."""
    file = folder / f"{key}.json"
    if not file.is_file():
        found = measure()
        part = file.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(file)
    return json.loads(file.read_text())


def ads_tables(
    folder: Path, size: Ads, seeds: range
) -> tuple[Table, Table, Table, dict[str, list[float]]]:
    """Returns regrets, coverages, regrets with delays, and the clicks lost by hour."""

    def run(rule: str, setting: float, delay: int, ads: Ads, world: int) -> list:
        outcome = bandit_ads.simulated(rule, ads, world, setting, delay)
        return [outcome.regret, outcome.coverage, *outcome.hourly.tolist()]

    def runs(rule: str, setting: float, delay: int, ads: Ads) -> np.ndarray:
        say(f"ads: {rule} {setting:g}, delay {delay}")
        name = f"ads-{rule}-{setting:g}-{delay}-{ads.eligible}-{ads.hours}"
        return np.array(
            [
                kept(
                    folder, f"{name}-{w}", lambda w=w: run(rule, setting, delay, ads, w)
                )
                for w in seeds
            ]
        )

    regrets, coverages, hourly = {}, {}, {}
    for rule, settings in RULES.items():
        for setting in settings:
            table = runs(rule, setting, 1, size)
            key = f"{rule}_{setting:g}"
            regrets[key], coverages[key] = table[:, 0], table[:, 1]
            hourly[key] = table[:, 2:].mean(axis=0).tolist()
    everything = Ads(eligible=size.ads, ads=size.ads, hours=size.hours)
    late = {
        f"{rule}_{delay}": runs(rule, setting, delay, everything)[:, 0]
        for rule, setting in DELAYED.items()
        for delay in (1, DELAY)
    }
    return regrets, coverages, late, hourly


def tastes_tables(folder: Path, size: Tastes, seeds: range) -> Table:
    """Returns what each learner earned, batch by batch."""
    earned = {}
    for name in ("best", *bandit_tastes.LEARNERS):
        say(f"tastes: {name}")
        earned[name] = np.array(
            [
                kept(
                    folder,
                    f"tastes-{name}-{size.batches}-{world}",
                    lambda name=name, world=world: bandit_tastes.earned(
                        name, size, world
                    ).tolist(),
                )
                for world in seeds
            ]
        )
    return earned


def paces() -> dict[str, float]:
    """Returns events learnt a CPU second, and CPU microseconds to score a candidate."""
    size = Tastes(candidates=_SCORED, items=_SCORED)
    world = World(size, 0)
    out = {}
    for name, key in (
        ("bfm", "bfm"),
        ("disjoint", "disjoint_1"),
        ("hybrid", "hybrid_1"),
    ):
        learner = bandit_tastes.LEARNERS[key](world, 0)
        users, items = world.requests()
        shown, clicks = items[:, 0], np.zeros(size.batch, np.float32)
        batch = _seconds_of(lambda: learner.learn(users, shown, clicks))  # noqa: B023
        out[f"events_per_cpu_s_{name}"] = size.batch / batch
        request = _seconds_of(lambda: learner.choose(users[:1], items[:1]))  # noqa: B023
        out[f"us_per_candidate_{name}"] = 1e6 * request / _SCORED
    return out


def _seconds_of(function: Callable[[], object]) -> float:
    """Returns the CPU time of a call, after a first one."""
    function()
    calls, begin = 0, time.process_time()
    while time.process_time() - begin < _SECONDS:
        function()
        calls += 1
    return (time.process_time() - begin) / calls


def plots(
    hourly: Mapping[str, list[float]], earned: Table, regrets: Table
) -> list[Plot]:
    """Returns the clicks lost by hour, and what learners earn by batch."""
    rules = [best_of(regrets, rule, -1) for rule in RULES if rule != "random"]
    best = earned["best"].mean()
    return [
        Plot(
            name="ads",
            title="Clicks lost since the beginning, expected",
            x_label="hour",
            y_label="clicks",
            series={
                key: [(hour + 1.0, lost) for hour, lost in enumerate(hourly[key])]
                for key in rules
            },
        ),
        Plot(
            name="tastes",
            title="Click-through rate, as a share of the best possible",
            x_label="batch",
            y_label="share",
            series={
                name: [
                    (float(end), float(table[:, end - 5 : end].mean() / best))
                    for end in range(5, table.shape[1] + 1, 5)
                ]
                for name, table in earned.items()
                if name != "best"
            },
        ),
    ]


def sources_key() -> str:
    """Names the code that outcomes depend on."""
    from models.bandit import bayesian_fm, laplace, lin_ucb
    from models.policy import thompson

    modules = (bandit_ads, bandit_tastes, bayesian_fm, laplace, lin_ucb, thompson)
    text = "".join(Path(str(module.__file__)).read_text() for module in modules)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measured(arguments: argparse.Namespace) -> Result:
    """Runs both simulations."""
    begin = time.monotonic()
    ads, num_ads = (Ads(hours=30), 4) if arguments.quick else (Ads(), 20)
    tastes, num_tastes = (Tastes(batches=20), 2) if arguments.quick else (Tastes(), 8)
    folder = Path(tempfile.gettempdir()) / "tandem-bench-bandit" / sources_key()
    folder.mkdir(parents=True, exist_ok=True)
    first = arguments.seed
    *tables, hourly = ads_tables(folder, ads, range(first, first + num_ads))
    earned = tastes_tables(folder, tastes, range(first, first + num_tastes))
    values, intervals = figures(*tables, earned)
    say("paces")
    values |= paces()
    return Result(
        name="bandit_regret",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "numpy"),
        },
        data={
            "ads": vars(ads),
            "ads_worlds": num_ads,
            "delay_hours": DELAY,
            "tastes": vars(tastes),
            "tastes_worlds": num_tastes,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [p.model_dump() for p in plots(hourly, earned, tables[0])],
        },
        seconds=time.monotonic() - begin,
    )


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("bandit_regret", __doc__)
    tf.config.threading.set_intra_op_parallelism_threads(1)  # a CPU second is one's own
    return finish(measured(arguments), arguments)


if __name__ == "__main__":
    sys.exit(main())
