"""How fast the item index searches, beside brute force, hnswlib and faiss, on one core.

All search the same clustered vectors for the 100 largest inner products. Each looks, on
queries for that, for its fastest setting that finds 95 % of them; then all search other
queries in turns. Speed is queries per second of CPU time on one core.
"""

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.ann_contestant import TARGET
from benchmarks.ann_world import DIM, ITEMS_PER_CLUSTER, NUM_QUERIES, K, World
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.result import Result, medians, spreads, versions_of

ROOT = Path(__file__).parents[1]
PEER_PINS = {"hnswlib": "hnswlib==0.8.0", "faiss": "faiss-cpu==1.15.1"}
OURS = {"tandem": "benchmarks.ann_tandem", "exact": "benchmarks.ann_exact"}
FULL_ITEMS, QUICK_ITEMS = 1_000_000, 100_000
FULL_ROUNDS, QUICK_ROUNDS = 7, 3


@dataclasses.dataclass(frozen=True)
class Found:
    """What a contestant came to.

    Attributes:
        ready: what it said when it was tuned: `build_seconds`, `chosen`, `points`.
        rounds: what it said of each search: `queries_per_second`, `recall`.
    """

    ready: dict
    rounds: list[dict]


class Contestant:
    """A process that searches whenever told to."""

    def __init__(self, who: str, folder: Path, core: int, quick: bool):
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        self._who = who
        self._errors = (folder / f"{who}.log").open("w+")
        self._process = subprocess.Popen(
            [*command(who), str(folder), str(core), "quick" if quick else "full"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def hear(self) -> dict:
        """Returns the next thing that it says.

        Raises:
            RuntimeError: if it ended instead; with the end of what it wrote.
        """
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            tail = "\n".join(self._errors.read().splitlines()[-20:])
            raise RuntimeError(f"{self._who} ended:\n{tail}")
        return json.loads(line)

    def search(self) -> dict:
        """Has it search once; returns the speed and the recall."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.hear()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def command(who: str) -> list[str]:
    """Returns the interpreter and the module of a contestant."""
    if who in OURS:
        return [sys.executable, "-m", OURS[who]]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    uv = ["uv", "run", "--quiet", "--isolated", "--no-project", "--python", version]
    pins = [PEER_PINS[who], f"numpy=={versions_of('numpy')['numpy']}"]
    with_pins = [part for pin in pins for part in ("--with", pin)]
    return [*uv, *with_pins, "python", "-m", f"benchmarks.peers.ann_{who}"]


def contest(folder: Path, quick: bool) -> dict[str, Found]:
    """Has all build and tune one after the other, then search in turns."""
    core = max(os.sched_getaffinity(0))
    found: dict[str, Found] = {}
    contestants: dict[str, Contestant] = {}
    try:
        for who in (*OURS, *PEER_PINS):
            contestants[who] = Contestant(who, folder, core, quick)
            ready = contestants[who].hear()
            found[who] = Found(ready, [])
            chosen = ready["chosen"]
            say(
                f"{who:9} built in {ready['build_seconds']:5.0f} s: recall "
                f"{chosen['recall']:.4f}, {chosen['queries_per_second']:7,.0f} "
                f"queries/s with {chosen['setting']}"
            )
        for _ in range(QUICK_ROUNDS if quick else FULL_ROUNDS):
            for who, contestant in contestants.items():
                found[who].rounds.append(contestant.search())
    finally:
        for contestant in contestants.values():
            contestant.end()
    return found


def figures(found: Mapping[str, Found]) -> dict[str, list[float]]:
    """Returns what each figure came to in each round."""
    speeds = {
        who: [one["queries_per_second"] for one in each.rounds]
        for who, each in found.items()
    }

    def ratio(to: str) -> list[float]:
        return [a / b for a, b in zip(speeds["tandem"], speeds[to], strict=True)]

    figures = {
        f"recall@{K}": [one["recall"] for one in found["tandem"].rounds],
        "speedup_over_exact": ratio("exact"),
        **{f"ratio_to_{who}": ratio(who) for who in PEER_PINS},
    }
    for who, each in found.items():
        figures[f"queries_per_s_{who}"] = speeds[who]
        figures[f"build_s_{who}"] = [each.ready["build_seconds"]]
        if who in PEER_PINS:
            figures[f"recall@{K}_{who}"] = [one["recall"] for one in each.rounds]
    return figures


def pareto(points: Sequence[Mapping]) -> list[tuple[float, float]]:
    """Returns (recall, queries per second) of the points that no other beats."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (-p["recall"], -p["queries_per_second"])):
        if not front or point["queries_per_second"] > front[-1][1]:
            front.append((point["recall"], point["queries_per_second"]))
    return front[::-1]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("ann_index", __doc__)
    begin = time.monotonic()
    num_items = QUICK_ITEMS if arguments.quick else FULL_ITEMS
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        say(f"drawing {num_items:,} vectors and searching them exactly")
        World.draw(num_items, arguments.seed).save(Path(folder))
        found = contest(Path(folder), arguments.quick)
    values = figures(found)
    peers = dict(pin.split("==") for pin in PEER_PINS.values())
    ours = versions_of("scann", "tensorflow", "numpy")
    result = Result(
        name="ann_index",
        figures=medians(values),
        intervals=spreads(values),
        versions={"python": platform.python_version(), **ours, **peers},
        data={
            "items": num_items,
            "dimensions": DIM,
            "items_per_cluster": ITEMS_PER_CLUSTER,
            "queries": NUM_QUERIES,
            "recall_target": TARGET,
            "settings": {w: f.ready["chosen"]["setting"] for w, f in found.items()},
            "pareto": {w: pareto(f.ready["points"]) for w, f in found.items()},
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
