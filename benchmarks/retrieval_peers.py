"""Is Tandem's retrieval better than what one would pick instead?

On both MovieLens logs every contender learns from the same events and ranks the whole
catalogue, less what the user has met, for the same test events; see
`benchmarks.retrieval_contest`. Each log is raced twice: as it is, where events of the same
second are not each other's past, and with the order of the file taken for that of time, as
published comparisons do; see `benchmarks.log_order`. BPR and SASRec try their whole grids in
the first race; the others take what was best there for learning, and try the rest: how long
to learn, and how to read a history. A contender's outcome is kept in a
folder under the temporary one, so a run that was ended goes on where it was; what was made
of other sources is not used again. `--kept` runs nobody: it reports the outcomes that are
kept, and which are missing; a race of which none is kept stays as it is on file. `--quick` has the smaller log as it is, small grids and
no SASRec, which takes too long.
"""

import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.command_line import finish, parser_of, say
from benchmarks.log_order import fetched_in_log_order
from benchmarks.plot import Plot
from benchmarks.result import RESULTS, Result, read_result, versions_of
from benchmarks.retrieval_baselines import Ease, ItemKnn, Popularity, RecentPopularity
from benchmarks.retrieval_contest import Contender, Outcome, Setting, compete, grid
from benchmarks.retrieval_data import Sizes, read_contest
from models.retrieval.evaluation import recall_at
from models.retrieval.intervals import UserBootstrap
from pipeline.datasets import fetch

ROOT = Path(__file__).parents[1]
DATASETS = {"100k": "movielens-100k", "1m": "movielens-1m"}
IN_LOG_ORDER = (
    "_in_log_order"  # ends the name of a race in which the file's order counts
)
RACES = tuple(size + how for how in ("", IN_LOG_ORDER) for size in DATASETS)
CUTOFFS = (10, 100)
PLOTTED_CUTOFFS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
TANDEM = "tandem"
FULL_SIZES = Sizes(validation=3_000, test=30_000)
QUICK_SIZES = Sizes(validation=2_000, test=5_000)

IMPLICIT_PINS = ("implicit==0.7.3", "threadpoolctl==3.6.0")
SASREC_PINS = ("rectools[torch]==0.19.0",)
PEERS = {  # name: (module, pins of its environment; none is Tandem's own)
    "implicit_als": ("retrieval_als", IMPLICIT_PINS),
    "implicit_bpr": ("retrieval_bpr", IMPLICIT_PINS),
    "sasrec": ("retrieval_sasrec", SASREC_PINS),
    "tfrs_tutorial": ("retrieval_tfrs_tutorial", ()),
}
COSTLY = ("implicit_bpr", "sasrec")  # peers tuned in full in the first race alone
_RULES = ("baselines", "contest", "data")  # of the race, the same for all
HALF_LIVES = [1.0, 2.0, 4.0, 8.0, 16.0]


def baselines(is_quick: bool) -> dict[str, Contender]:
    """Returns the contenders that run in this process."""
    flat = grid(last=[50, None])
    decay = grid(
        half_life=[4.0] if is_quick else HALF_LIVES, is_hyperbolic=[False, True]
    )
    knn = grid(
        neighbours=[100] if is_quick else [50, 200, 100_000],
        shrinkage=[10.0] if is_quick else [0.0, 10.0, 100.0],
    )
    ease = grid(
        regularization=[100.0, 1e3] if is_quick else [30.0, 100.0, 300.0, 1e3, 3e3, 1e4]
    )
    return {
        "popularity": Popularity(),
        "recent_popularity": RecentPopularity([1, 3, 7, 14, 30, 90, 365]),
        "item_knn": ItemKnn(knn, flat),
        "item_knn_decay": ItemKnn(knn, decay),
        "ease": Ease(ease, flat),
        "ease_decay": Ease(ease, decay),
    }


class Bench:
    """Runs the contenders in one race and keeps their outcomes.

    Args:
        race: one of `RACES`.
        folder: where outcomes and the fetched data stay from run to run.
        seed: of the sampled events.
        is_quick: whether less is to do.
        learning: what costly peers learn with, by name, where another race has told.
        is_kept_only: whether contenders without a kept outcome are left out.

    Attributes:
        missing: the contenders that were left out.
    """

    def __init__(
        self,
        race: str,
        folder: Path,
        seed: int,
        is_quick: bool,
        learning: Mapping[str, Setting] | None = None,
        is_kept_only: bool = False,
    ):
        size = race.removesuffix(IN_LOG_ORDER)
        self._race = race
        self._dataset = DATASETS[size]
        self._folder = folder
        self._is_quick = is_quick
        self._learning = learning or {}
        self._is_kept_only = is_kept_only
        self.missing: list[str] = []
        self._data = folder / "data"
        directory = fetch(self._dataset, self._data, say).directory
        if race != size:
            self._data = folder / f"data{IN_LOG_ORDER}"
            self._data.mkdir(exist_ok=True)
            directory = fetched_in_log_order(directory, self._data)
        sizes = QUICK_SIZES if is_quick else FULL_SIZES
        if not is_quick and size == "100k":
            sizes = dataclasses.replace(sizes, test=sys.maxsize)  # all of them
        self.contest = read_contest(directory, sizes, seed)
        self._contest_file = folder / f"contest-{race}-{seed}-{is_quick}.npz"
        self.contest.save(self._contest_file)

    def outcomes(self) -> dict[str, Outcome]:
        """Returns what each contender came to, but for those that are `missing`."""
        found = {TANDEM: self._kept(TANDEM, _sources("**"), self._tandem)}
        common = _sources(
            *(f"benchmarks/retrieval_{part}.py" for part in _RULES),
            "models/retrieval/evaluation.py",
        )
        for name, contender in baselines(self._is_quick).items():
            found[name] = self._kept(
                name,
                common,
                lambda file, c=contender: compete(c, self.contest).save(file),
            )
        for name, (module, pins) in PEERS.items():
            if name == "sasrec" and self._is_quick:
                say("sasrec is left out of a quick run: its environment alone is 3 GB")
                continue
            parts = [common, _sources(f"benchmarks/peers/{module}.py"), *pins]
            options = []
            if name in self._learning:
                options = ["--learning", json.dumps(self._learning[name])]
            found[name] = self._kept(
                name,
                _digest([*parts, *options]),
                lambda file, m=module, p=pins, o=options: self._peer(m, p, file, o),
            )
        self.missing = [name for name, outcome in found.items() if outcome is None]
        return {name: outcome for name, outcome in found.items() if outcome is not None}

    def _kept(self, name: str, sources: str, run) -> Outcome | None:
        """Returns an outcome, from its file where the same was done before.

        None where that is all that is asked for, and it was not.
        """
        content = hashlib.sha256(self._contest_file.read_bytes()).hexdigest()
        key = _digest([name, content, sources, str(self._is_quick)])
        file = self._folder / f"{self._race}-{name}-{key}.npz"
        if not file.exists():
            if self._is_kept_only:
                return None
            say(f"  {name} on {self._race}")
            run(file)
        outcome = Outcome.load(file)
        recalls = [f"{recall_at(outcome.ranks, k).mean():.4f}" for k in CUTOFFS]
        say(f"{self._race:>5} {name:18} {' '.join(recalls)}  {outcome.setting}")
        return outcome

    def _tandem(self, file: Path) -> None:
        root = file.with_suffix("")
        root.mkdir(exist_ok=True)
        if not (root / "data").exists():
            (root / "data").symlink_to(self._data)
        command = [sys.executable, "-m", "benchmarks.retrieval_tandem"]
        command += [self._dataset, str(root)]
        self._run(command, file)

    def _peer(
        self, module: str, pins: Sequence[str], file: Path, options: Sequence[str]
    ) -> None:
        command = [sys.executable]
        if pins:
            shared = [f"{n}=={v}" for n, v in versions_of("scipy").items()]
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            command = ["uv", "run", "--quiet", "--isolated", "--no-project"]
            command += ["--python", version]
            command += [part for pin in (*pins, *shared) for part in ("--with", pin)]
            command += ["python"]
        self._run([*command, "-m", f"benchmarks.peers.{module}"], file, options)

    def _run(
        self, command: Sequence[str], file: Path, options: Sequence[str] = ()
    ) -> None:
        quick = ["--quick"] if self._is_quick else []
        arguments = [str(self._contest_file), str(file), *quick, *options]
        subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # ours is for the result
            check=True,
        )


def _sources(*patterns: str) -> str:
    """Returns a digest of the sources that an outcome depends on.

    Args:
        patterns: from the root of the project; `**` is all of Tandem itself.
    """
    if patterns == ("**",):
        packages = ("models", "schemas", "components", "pipeline")
        patterns = tuple(
            f"{name}/**/*.{end}" for name in packages for end in ("py", "yaml")
        )
        patterns += ("benchmarks/retrieval_tandem.py", "benchmarks/retrieval_data.py")
    files = sorted(file for pattern in patterns for file in ROOT.glob(pattern))
    return _digest([file.read_text() for file in files])


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def figures(
    outcomes: dict[str, Outcome], users: np.ndarray, race: str
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns each contender's recall, and Tandem's less each other's, with intervals.

    The intervals are of 95 %, by drawing users; differences are paired.

    Args:
        outcomes: by contender, all of the same events.
        users: [n] whose events they are.
        race: ends each key.
    """
    values, intervals = {}, {}
    for cutoff in CUTOFFS:
        hits = {name: recall_at(o.ranks, cutoff) for name, o in outcomes.items()}
        columns = {f"recall@{cutoff}_{name}_{race}": hit for name, hit in hits.items()}
        columns |= {
            f"recall@{cutoff}_{TANDEM}_minus_{name}_{race}": hits[TANDEM] - hit
            for name, hit in hits.items()
            if name != TANDEM
        }
        bounds = UserBootstrap(users).intervals(
            np.stack(list(columns.values()), axis=1)
        )
        for (key, column), (low, high) in zip(columns.items(), bounds[0], strict=True):
            values[key] = float(column.mean())
            intervals[key] = (float(low), float(high))
    return values, intervals


def plot(outcomes: dict[str, Outcome], race: str) -> Plot:
    """Returns recall by cut-off, a line for each contender, the best at 100 first."""
    recalls = {
        name: [
            (float(k), float(recall_at(outcome.ranks, k).mean()))
            for k in PLOTTED_CUTOFFS
        ]
        for name, outcome in outcomes.items()
    }
    at_100 = PLOTTED_CUTOFFS.index(100)
    return Plot(
        name=f"recall_{race}",
        title=f"MovieLens {race.replace('_', ' ')}: recall of the last 20 % of events",
        x_label="cut-off k",
        y_label="recall@k",
        series=dict(sorted(recalls.items(), key=lambda line: -line[1][at_100][1])),
        log_x=True,
    )


def on_file(race: str, folder: Path = RESULTS) -> dict[str, dict]:
    """Returns the parts of the committed result that are of one race; empty without one."""
    if not (folder / "retrieval_peers.json").exists():
        return {"figures": {}, "intervals": {}, "data": {}, "plots": {}}
    result = read_result("retrieval_peers", folder)
    end = f"_{race}"
    plots = {one["name"]: one for one in result.data["plots"]}
    return {
        "figures": {k: v for k, v in result.figures.items() if k.endswith(end)},
        "intervals": {k: v for k, v in result.intervals.items() if k.endswith(end)},
        "data": {k: v for k, v in result.data.items() if k == race},
        "plots": {k: v for k, v in plots.items() if k == f"recall{end}"},
    }


def main() -> int:
    """Runs the benchmark as the command line says."""
    parser = parser_of("retrieval_peers", __doc__)
    parser.add_argument(
        "--kept", action="store_true", help="report what was done, and run nobody"
    )
    arguments = parser.parse_args()
    begin = time.monotonic()
    folder = Path(tempfile.gettempdir()) / "tandem-bench-retrieval-peers"
    folder.mkdir(exist_ok=True)
    parts: list[dict[str, dict]] = []
    learning: dict[str, Setting] = {}
    for race in RACES[:1] if arguments.quick else RACES:
        bench = Bench(
            race, folder, arguments.seed, arguments.quick, learning, arguments.kept
        )
        outcomes = bench.outcomes()
        learning = learning or {
            name: outcomes[name].setting["learning"]
            for name in COSTLY
            if name in outcomes
        }
        if TANDEM not in outcomes:
            say(
                f"{race}: {TANDEM} has no kept outcome; the race stays as it is on file"
            )
            parts.append(on_file(race))
            continue
        users = bench.contest.users[bench.contest.test_rows]
        values, intervals = figures(outcomes, users, race)
        drawn = plot(outcomes, race)
        about = {
            "events": len(bench.contest.items),
            "catalogue": len(bench.contest.item_ids),
            "test_events": len(bench.contest.test_rows),
            "test_users": len(np.unique(users)),
            "missing": bench.missing,
            "contenders": {
                name: {
                    "setting": outcome.setting,
                    "tried": outcome.tried,
                    "validation": outcome.validation,
                    "seconds": round(outcome.seconds, 1),
                }
                for name, outcome in outcomes.items()
            },
        }
        parts.append(
            {
                "figures": values,
                "intervals": intervals,
                "data": {race: about},
                "plots": {drawn.name: drawn.model_dump()},
            }
        )
    whole = {
        name: {key: value for part in parts for key, value in part[name].items()}
        for name in ("figures", "intervals", "data", "plots")
    }
    pins = dict(pin.split("==") for _, pins in PEERS.values() for pin in pins)
    result = Result(
        name="retrieval_peers",
        figures=whole["figures"],
        intervals=whole["intervals"],
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tensorflow-recommenders", "numpy", "scipy"),
            **pins,
        },
        data={
            **whole["data"],
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": list(whole["plots"].values()),
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
