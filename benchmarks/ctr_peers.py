"""Is Tandem's ranking better than what one would pick instead, on the same rows?

Two public logs, each as one table that every contestant reads (`benchmarks.ctr_data`): hotels
that trivago showed and whether they were clicked, and MovieLens 1M with a rating of 4 or more
as the label. Contestants learn from what is before validation, are tuned and stopped by
validation and predict the last 20 % by time (`benchmarks.ctr_contest`); Tandem is its shipped
defaults, the same for both. Intervals are of 95 %, by drawing users; differences are paired.
`throughput_ratio_to_deepctr` is of training, rows per second of CPU in alternating runs
(`benchmarks.ctr_pace`), the smaller one of the two tables.

trivago's log is not fetched: give its folder by `--trivago`, and without it there is MovieLens
alone. A contestant's outcome is kept in a folder under the temporary one, so a run that was
ended goes on where it was. `--quick` has MovieLens's rows thinned out, and one setting each.
"""

import argparse
import dataclasses
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import ctr_data
from benchmarks.command_line import finish, parser_of, say
from benchmarks.ctr_contest import Outcome
from benchmarks.ctr_data import ITEM, USER, CtrTable, movielens_table, trivago_table
from benchmarks.ctr_pace import BATCH_SIZE, STEPS, costs
from benchmarks.result import Result, versions_of
from models.ranking.evaluation import (
    GroupAuc,
    Resampled,
    interval,
    log_losses,
    resample,
)
from models.ranking.settings import RankingSettings
from models.retrieval.intervals import UserBootstrap
from pipeline.datasets import fetch

ROOT = Path(__file__).parents[1]
TANDEM = "tandem"
SCIKIT_PINS = ("scikit-learn==1.3.2", "numpy<2")
PEERS = {  # name: (module, pins of its environment)
    "deepctr": (
        "ctr_deepctr",
        ("deepctr==0.9.4", "tensorflow==2.15.1", "numpy<2"),
    ),
    "logistic": ("ctr_logistic", SCIKIT_PINS),
    "lightgbm": ("ctr_lightgbm", ("lightgbm==4.5.0", *SCIKIT_PINS)),
}
# One number, by the rows to fit: how often what stands in the column was chosen.
SINGLE_COLUMNS = {
    "trivago": {"position": "context_position"},
    "movielens": {"popularity": ITEM},
}
RULES = (
    "ctr_contest",
    "ctr_data",
    "retrieval_data",
)  # of the contest, the same for all
TANDEM_LAYERS = (
    *("dropout", "feature_embedding", "fm_interaction", "joint_mlp", "mlp"),
    "piecewise_linear",
)
TANDEM_PARTS = ("deepfm", "fm", "progress", "ranker", "trainee", "trainer")
THREADS = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
RESAMPLES = 300
TURNS = 5
_QUICK_USERS = 5  # one in so many
_PRIOR = 10.0  # rows
_KEPT_CHARACTERS = 4000


def main() -> int:
    """Runs the benchmark as the command line says."""
    parser = parser_of("ctr_peers", __doc__)
    parser.add_argument(
        "--trivago", type=Path, metavar="DIR", help="folder of `impressions.parquet`"
    )
    arguments = parser.parse_args()
    begin = time.monotonic()
    folder = Path(tempfile.gettempdir()) / "tandem-bench-ctr-peers"
    folder.mkdir(exist_ok=True)
    values, intervals, data, paces = {}, {}, {}, {}
    for name in ("trivago", "movielens") if arguments.trivago else ("movielens",):
        bench = Bench(name, folder, arguments)
        outcomes = bench.outcomes()
        found = figures(name, bench.table, outcomes, arguments.seed)
        values |= found[0]
        intervals |= found[1]
        data[name] = described(bench.table, outcomes)
        paces[name] = bench.paces(2 if arguments.quick else TURNS)
    pace_values, pace_intervals = pace_figures(paces)
    pins = dict(
        pin.split("==") for _, pins in PEERS.values() for pin in pins if "==" in pin
    )
    result = Result(
        name="ctr_peers",
        figures=values | pace_values,
        intervals=intervals | pace_intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tf-keras", "numpy"),
            **pins,
            "deepctr's tensorflow": pins["tensorflow"],
            **versions_of("tensorflow"),
        },
        data={**data, "seed": arguments.seed, "quick": arguments.quick},
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


class Bench:
    """Runs the contestants on one table and keeps their outcomes.

    Args:
        name: of the log.
        folder: where outcomes and tables stay from run to run.
        arguments: of the command line.
    """

    def __init__(self, name: str, folder: Path, arguments: argparse.Namespace) -> None:
        self._name = name
        self._folder = folder
        self._is_quick = arguments.quick
        sources = digest([_text(ctr_data.__file__)])
        self._file = folder / f"table-{name}-{arguments.quick}-{sources}.npz"
        if not self._file.exists():
            say(f"reading {name}")
            if name == "trivago":
                table = trivago_table(arguments.trivago)
            else:
                table = movielens_table(fetch("movielens-1m", folder, say).directory)
            if arguments.quick:
                table = thinned(table, _QUICK_USERS)
            temporary = self._file.with_suffix(".tmp.npz")
            table.save(temporary)
            temporary.replace(self._file)
        self.table = CtrTable.load(self._file)

    def outcomes(self) -> dict[str, Outcome]:
        """Returns what each contestant came to."""
        found = {TANDEM: self._kept(TANDEM, tandem_sources(), self._command(TANDEM))}
        for name, (module, pins) in PEERS.items():
            sources = [_text(ROOT / f"benchmarks/peers/{module}.py"), *pins]
            found[name] = self._kept(name, sources, self._command(name))
        for name, column in SINGLE_COLUMNS[self._name].items():
            found[name] = Outcome(single_column(self.table, column), {}, [], 0.0)
        return found

    def _kept(self, name: str, sources: Sequence[str], command: list[str]) -> Outcome:
        """Returns an outcome, from its file where the same was done before."""
        rules = [_text(ROOT / f"benchmarks/{rule}.py") for rule in RULES]
        key = digest([self._file.name, *rules, *sources])
        file = self._folder / f"{self._name}-{name}-{self._is_quick}-{key}.npz"
        if not file.exists():
            say(f"  {name} on {self._name}")
            options = ["--quick"] if self._is_quick else []
            run([*command, str(file), *options])
        return Outcome.load(file)

    def _command(self, name: str) -> list[str]:
        if name == TANDEM:
            return [sys.executable, "-m", "benchmarks.ctr_tandem", str(self._file)]
        module, pins = PEERS[name]
        shared = [f"{n}=={v}" for n, v in versions_of("scipy").items()]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return [
            *("uv", "run", "--quiet", "--isolated", "--no-project"),
            *("--python", version),
            *(part for pin in (*pins, *shared) for part in ("--with", pin)),
            *("python", "-m", f"benchmarks.peers.{module}", str(self._file)),
        ]

    def paces(self, turns: int) -> dict[str, list[float]]:
        """Returns seconds of CPU that the same rows take Tandem and DeepCTR, by turn."""
        say(f"  pace on {self._name}")
        commands = {n: [*self._command(n), "--paced"] for n in (TANDEM, "deepctr")}
        return costs(commands, turns, ROOT, THREADS)


def run(command: list[str]) -> None:
    """Runs a contestant's process.

    Raises:
        RuntimeError: if it fails; with the end of what it wrote.
    """
    environment = {**os.environ, **THREADS}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,  # what libraries say there would spoil `--json`
        stderr=subprocess.PIPE,
    )
    say(done.stderr[-_KEPT_CHARACTERS:])
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` ended with code {done.returncode}")


def single_column(table: CtrTable, name: str) -> np.ndarray:
    """Returns [n] for the test rows: the column's mean label, drawn towards the overall one.

    Of all rows before the test; unknown values get the mean.
    """
    before = slice(0, int(table.num_train))
    values, labels = table.category(name), table.labels[before]
    size = int(values.max()) + 1
    mean = float(labels.mean(dtype=np.float64))
    counts = np.bincount(values[before], minlength=size)
    sums = np.bincount(values[before], labels, minlength=size)
    rates = (sums + _PRIOR * mean) / (counts + _PRIOR)
    return rates[values[table.test]]


def thinned(table: CtrTable, keep: int) -> CtrTable:
    """Returns the rows of one user in `keep`."""
    is_kept = table.category(USER) % keep == 0
    changed = {
        name: getattr(table, name)[is_kept]
        for name in ("labels", "categories", "numbers", "lists", "history")
    }
    return dataclasses.replace(
        table,
        **changed,
        num_fit=np.array(is_kept[: table.num_fit].sum()),
        num_train=np.array(is_kept[: table.num_train].sum()),
    )


def figures(
    log: str, table: CtrTable, outcomes: dict[str, Outcome], seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns each contestant's AUC and log loss, and Tandem's less the others'.

    Args:
        log: ends each key.
        table: whose test rows were predicted.
        outcomes: by contestant.
        seed: of the drawn users.
    """
    labels, users = table.labels[table.test], table.category(USER)[table.test]
    draws = UserBootstrap(users, seed, RESAMPLES)
    values: dict[str, dict[str, float]] = {}
    drawn: dict[str, Resampled] = {}
    for name, outcome in outcomes.items():
        values[name] = {
            "auc": float(GroupAuc(labels, outcome.probs)()[0]),
            "logloss": float(log_losses(labels, outcome.probs).mean()),
        }
        drawn[name] = resample(labels, outcome.probs, users, draws, {})
    found: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}

    def note(key: str, value: float, resampled: np.ndarray) -> None:
        low, high = interval(resampled)
        found[key] = value
        intervals[key] = (min(low, value), max(high, value))

    for figure in ("auc", "logloss"):
        own = getattr(drawn[TANDEM], figure)
        for name in outcomes:
            others = getattr(drawn[name], figure)
            note(f"{figure}_{name}_{log}", values[name][figure], others)
            if name != TANDEM:
                note(
                    f"{figure}_{TANDEM}_minus_{name}_{log}",
                    values[TANDEM][figure] - values[name][figure],
                    own - others,
                )
    return found, intervals


def pace_figures(
    paces: dict[str, dict[str, list[float]]],
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns the speed of training and its ratio, with the least and greatest turn.

    Args:
        paces: by log and contestant, seconds of CPU of each turn.
    """
    found: dict[str, float] = {}
    spreads: dict[str, tuple[float, float]] = {}

    def note(key: str, turns: np.ndarray) -> None:
        found[key] = float(np.median(turns))
        spreads[key] = (float(turns.min()), float(turns.max()))

    for log, seconds in paces.items():
        ours, theirs = (np.array(seconds[name]) for name in (TANDEM, "deepctr"))
        note(f"rows_per_cpu_s_{TANDEM}_{log}", STEPS * BATCH_SIZE / ours)
        note(f"rows_per_cpu_s_deepctr_{log}", STEPS * BATCH_SIZE / theirs)
        note(f"throughput_ratio_to_deepctr_{log}", theirs / ours)
    key = "throughput_ratio_to_deepctr"
    least = min((f"{key}_{log}" for log in paces), key=lambda name: found[name])
    return found | {key: found[least]}, spreads | {key: spreads[least]}


def described(table: CtrTable, outcomes: dict[str, Outcome]) -> dict:
    """Returns what was raced on, and by which settings."""
    return {
        "rows": len(table.labels),
        "fit_rows": int(table.num_fit),
        "test_rows": len(table.labels) - int(table.num_train),
        "test_users": len(np.unique(table.category(USER)[table.test])),
        "positive_share": float(table.labels.mean(dtype=np.float64)),
        "columns": [
            *table.category_names.tolist(),
            *table.number_names.tolist(),
            *([str(table.list_name)] if table.lists.shape[1] else []),
            "history",
        ],
        "contestants": {
            name: {
                "setting": outcome.setting,
                "tried": outcome.tried,
                "cpu_s": round(outcome.cpu_s, 1),
            }
            for name, outcome in outcomes.items()
        },
    }


def tandem_sources() -> list[str]:
    """Returns the texts that Tandem's outcome depends on."""
    files = [
        "benchmarks/ctr_tandem.py",
        *(f"models/{name}.py" for name in ("sparse_adamw", "weight_average")),
        *(f"models/layers/{name}.py" for name in TANDEM_LAYERS),
        *(f"models/ranking/{name}.py" for name in TANDEM_PARTS),
    ]
    return [RankingSettings().model_dump_json(), *(_text(ROOT / f) for f in files)]


def digest(parts: Sequence[str]) -> str:
    """Returns a short name of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _text(file: str | Path | None) -> str:
    return Path(str(file)).read_text()


if __name__ == "__main__":
    sys.exit(main())
