"""What it costs to turn an event log into training rows, beside those who do the same.

Tandem, Polars, DuckDB and straightforward per-element Beam do the job of
`benchmarks.ingest_job` on the same synthetic logs; before anything counts, all four must
have written the same rows. Each run is a process of its own, and its cost is the time of
all its processes' CPUs, start-up included. Compiling modules to bytecode, which Python does
once an installation, is not: each does the job on a small log before its first run counts.
"""

import dataclasses
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.event_log import BAD_SHARE, COPY_SHARE, LogShape, write_log
from benchmarks.ingest_rows import digests
from benchmarks.measure import Cost, compiled_into, run_measured
from benchmarks.result import Result, medians, spreads, versions_of

ROOT = Path(__file__).parents[1]
SHARED_PINS = ("numpy", "google-crc32c", "isal")  # the same as in Tandem's environment
PEER_PINS = {"polars": "polars==2.1.0", "duckdb": "duckdb==2.0.0"}
NAIVE = "naive_beam"
_GIB = 1 << 30
_WARM_UP_RECORDS = 2_000


@dataclasses.dataclass(frozen=True)
class Scale:
    """Numbers of records: plain Beam is slow, and memory needs a large log."""

    naive: int  # beside plain Beam; also where all must write the same rows
    main: int  # beside Polars and DuckDB
    jsonl: int
    large: int
    repeats: int

    @property
    def grown_from(self) -> int:
        return self.large // 10


FULL = Scale(250_000, 1_000_000, 1_000_000, 10_000_000, 3)
QUICK = Scale(30_000, 300_000, 30_000, 300_000, 1)


@dataclasses.dataclass(frozen=True)
class Run:
    """The job, done once."""

    who: str
    records: int
    workers: int = 1
    file_format: str = "parquet"


Costs = Mapping[Run, Sequence[Cost]]


class Bench:
    """Runs the job and keeps what it cost."""

    def __init__(self, folder: Path, seed: int):
        self._folder = folder
        self._seed = seed
        self._environment = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **compiled_into(folder / "bytecode"),
        }
        self._shared = [f"{n}=={v}" for n, v in versions_of(*SHARED_PINS).items()]
        self.costs: dict[Run, list[Cost]] = {}

    def prepare(self) -> None:
        """Has environments made and modules compiled, so that no run pays for that."""
        everybody = (*PEER_PINS, NAIVE, "tandem")
        runs = [Run(who, _WARM_UP_RECORDS) for who in everybody]
        # Workers import what one process does not, and so do other formats.
        runs.append(Run("tandem", _WARM_UP_RECORDS, workers=2))
        runs.append(Run("tandem", _WARM_UP_RECORDS, file_format="jsonl"))
        for run in runs:
            say(f"warming up {run.who}")
            shutil.rmtree(self.do(run))
        self.costs.clear()

    def repeat(self, run: Run, times: int) -> None:
        """Does the job until it was done so many times."""
        while len(self.costs.get(run, [])) < times:
            shutil.rmtree(self.do(run))

    def do(self, run: Run) -> Path:
        """Does the job; returns the folder of what it wrote."""
        out = self._folder / "out"
        command = [*self._command(run.who), str(self._log(run)), str(out)]
        if run.who == "tandem":
            command += ["--runner=FnApiRunner"]
            if run.workers > 1:
                command += ["--direct_running_mode=multi_processing"]
                command += [f"--direct_num_workers={run.workers}"]
        cost = run_measured(command, ROOT, self._environment)
        read = account_of(cost)["read"]
        if read != run.records:
            raise RuntimeError(f"{run.who} read {read} of {run.records} records")
        self.costs.setdefault(run, []).append(cost)
        say(
            f"{run.who:10} {run.records:>10,} records, {run.file_format}, "
            f"{run.workers} worker(s): {cost.cpu_seconds:6.1f} s CPU, "
            f"{cost.wall_seconds:6.1f} s, {cost.peak_bytes / _GIB:5.2f} GiB"
        )
        return out

    def _log(self, run: Run) -> Path:
        """Returns the folder of the run's log, which is written when first needed."""
        log = self._folder / f"log-{run.records}-{run.file_format}"
        if not log.exists():
            say(f"writing a log of {run.records:,} records as {run.file_format}")
            write_log(log, run.records, self._seed, run.file_format)
        return log

    def _command(self, who: str) -> list[str]:
        """Returns the interpreter and its arguments, the module last."""
        if who == "tandem":
            return [sys.executable, "-m", "benchmarks.ingest_tandem"]
        if who == NAIVE:
            return [sys.executable, "-m", "benchmarks.peers.ingest_beam"]
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        uv = ["uv", "run", "--quiet", "--isolated", "--no-project", "--python", version]
        pins = [PEER_PINS[who], *self._shared]
        with_pins = [part for pin in pins for part in ("--with", pin)]
        return [*uv, *with_pins, "python", "-m", f"benchmarks.peers.ingest_{who}"]


def account_of(cost: Cost) -> dict:
    """Returns the account that a run printed last."""
    return json.loads(cost.output.splitlines()[-1])


def startup_of(cost: Cost) -> float:
    """Returns the CPU seconds that a run took before it began with the job."""
    return account_of(cost)["startup_cpu_s"]


def check_same_rows(bench: Bench, records: int) -> None:
    """Raises RuntimeError unless all four write the same rows of one log."""
    rows, accounts = {}, {}
    for who in ("tandem", *PEER_PINS, NAIVE):
        run = Run(who, records)
        out = bench.do(run)
        rows[who] = digests(out)
        accounts[who] = account_of(bench.costs[run][-1])
        shutil.rmtree(out)
    check_agreement(accounts)
    check_agreement(rows)
    number = sum(count for count, _ in rows["tandem"].values())
    say(f"all four wrote the same {number:,} rows")


def check_agreement(seen: Mapping[str, Mapping]) -> None:
    """Raises RuntimeError where anybody's answer differs from Tandem's."""
    for who, answer in seen.items():
        for key, expected in seen["tandem"].items():
            if key != "startup_cpu_s" and answer.get(key) != expected:
                raise RuntimeError(
                    f"the comparison is void: {who} has {key} = {answer.get(key)}, "
                    f"Tandem {expected}"
                )


def every_round(scale: Scale) -> list[Run]:
    """Returns what is repeated, in turns, so that a busy moment hits all alike."""
    return [
        Run(NAIVE, scale.naive),
        Run("tandem", scale.main),
        *(Run(who, scale.main) for who in PEER_PINS),
        Run("tandem", scale.main, workers=2),
        Run("tandem", scale.jsonl, file_format="jsonl"),
    ]


def only_once(scale: Scale) -> list[Run]:
    """Returns what takes long, or is asked for in passing."""
    return [
        Run("tandem", scale.grown_from),
        Run("tandem", scale.large),
        Run("tandem", scale.large, workers=2),
        *(Run(who, scale.large) for who in PEER_PINS),
    ]


def figures(costs: Costs, scale: Scale) -> dict[str, list[float]]:
    """Returns what each figure came to in each repeat."""
    main, large = Run("tandem", scale.main), Run("tandem", scale.large)
    two = dataclasses.replace(main, workers=2)
    naive = Run(NAIVE, scale.naive)
    jsonl = Run("tandem", scale.jsonl, file_format="jsonl")
    found = {
        "events_per_cpu_s": _speeds(costs, main),
        "startup_cpu_s": [startup_of(cost) for cost in costs[main]],
        "events_per_cpu_s_without_startup": _speeds(costs, main, without_startup=True),
        "events_per_cpu_s_jsonl": _speeds(costs, jsonl),
        "events_per_cpu_s_two_workers": _speeds(costs, two),
        # Plain Beam is given less to do; its start-up, which would weigh more in that,
        # is not counted against it.
        f"events_per_cpu_s_{NAIVE}": _speeds(costs, naive, without_startup=True),
    }
    found[f"ratio_to_{NAIVE}"] = _ratios(
        found["events_per_cpu_s"], found[f"events_per_cpu_s_{NAIVE}"]
    )
    for who in PEER_PINS:
        peer, large_peer = Run(who, scale.main), Run(who, scale.large)
        found[f"events_per_cpu_s_{who}"] = _speeds(costs, peer)
        found[f"ratio_to_{who}"] = _ratios(_cpu(costs, peer), _cpu(costs, main))
        found[f"ratio_to_{who}_large"] = _ratios(
            _cpu(costs, large_peer), _cpu(costs, large)
        )
        found[f"peak_rss_gib_{who}"] = [
            cost.peak_bytes / _GIB for cost in costs[large_peer]
        ]
    for name, run in (("", main), ("_large", large)):
        found[f"wall_ratio_two_workers{name}"] = _ratios(
            [cost.wall_seconds for cost in costs[run]],
            [cost.wall_seconds for cost in costs[dataclasses.replace(run, workers=2)]],
        )
    return found | _growth(costs, scale) | _memory(costs, large)


def _growth(costs: Costs, scale: Scale) -> dict[str, list[float]]:
    """Returns the growth of the cost, and that without start-up, which flatters it."""
    runs = costs[Run("tandem", scale.grown_from)]
    (large,) = costs[Run("tandem", scale.large)]
    after = large.cpu_seconds - startup_of(large)
    return {
        "growth_10x": [large.cpu_seconds / cost.cpu_seconds for cost in runs],
        "growth_10x_without_startup": [
            after / (cost.cpu_seconds - startup_of(cost)) for cost in runs
        ],
    }


def _memory(costs: Costs, large: Run) -> dict[str, list[float]]:
    two = costs[dataclasses.replace(large, workers=2)]
    workers = [
        [p.peak_bytes for p in cost.processes if "sdk_worker" in p.command]
        for cost in two
    ]
    one = costs[large]
    return {
        "peak_rss_gib": [cost.largest_process_bytes / _GIB for cost in two],
        "peak_rss_gib_worker": [max(sizes) / _GIB for sizes in workers],
        "peak_rss_gib_tree": [cost.peak_bytes / _GIB for cost in two],
        "peak_rss_gib_in_memory": [cost.largest_process_bytes / _GIB for cost in one],
    }


def _cpu(costs: Costs, run: Run) -> list[float]:
    return [cost.cpu_seconds for cost in costs[run]]


def _speeds(costs: Costs, run: Run, without_startup: bool = False) -> list[float]:
    return [
        run.records / (cost.cpu_seconds - without_startup * startup_of(cost))
        for cost in costs[run]
    ]


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Returns the ratio in each repeat, whose runs followed one another."""
    return [a / b for a, b in zip(above, below, strict=True)]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("ingest", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        bench = Bench(Path(folder), arguments.seed)
        bench.prepare()
        check_same_rows(bench, scale.naive)
        for number in range(scale.repeats):
            for run in every_round(scale):
                bench.repeat(run, number + 1)
        for run in only_once(scale):
            bench.repeat(run, 1)
    found = figures(bench.costs, scale)
    versions = versions_of("apache-beam", "pyarrow", "tensorflow", *SHARED_PINS)
    versions |= dict(pin.split("==") for pin in PEER_PINS.values())
    shape = LogShape(scale.main)
    result = Result(
        name="ingest",
        figures=medians(found),
        intervals=spreads(found),
        versions={"python": platform.python_version(), **versions},
        data={
            "records": dataclasses.asdict(scale),
            "users": shape.users,
            "items": shape.items,
            "bad_share": BAD_SHARE,
            "copy_share": COPY_SHARE,
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
