"""What every contestant of `benchmarks.ann_index` does alike; needs NumPy alone.

A contestant is a process. It builds its indexes by all cores, looks for its fastest
setting that reaches the recall on the queries to tune on, says so in a line of JSON, and
from then on searches the other queries, on one core, whenever it reads a line.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ann_world import World, recalls

TARGET = 0.95
# One-sided 95 %, so that what suffices here suffices for other queries too.
_CONFIDENCE = 1.645
_FINALISTS, _ROUNDS = 3, 3

Setting = dict[str, Any]
Search = Callable[[np.ndarray], np.ndarray]  # queries [Q, D] -> rows [Q, K]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One index and one line through its settings.

    Attributes:
        setting: what the line has in common.
        efforts: the numbers along it; recall grows with them, speed falls.
        search_with: makes a search of one of them.
        effort_name: what the number is.
    """

    setting: Setting
    efforts: Sequence[int]
    search_with: Callable[[int], Search]
    effort_name: str = "effort"


@dataclasses.dataclass(frozen=True)
class Point:
    """A setting and what it came to on the queries to tune on."""

    setting: Setting
    recall: float
    recall_error: float
    queries_per_second: float

    @property
    def suffices(self) -> bool:
        return self.recall - _CONFIDENCE * self.recall_error >= TARGET


def compete(sweeps: Iterable[Sweep], world: World, core: int) -> None:
    """Tunes along all sweeps, then searches whenever told to.

    Raises:
        RuntimeError: if nothing reaches the target.
    """
    begin = time.monotonic()
    sweeps = list(sweeps)  # builds
    build_seconds = time.monotonic() - begin
    use_one_core(core)
    points: list[Point] = []
    searches: list[Search] = []
    for sweep in sweeps:
        for point, search in sweep_points(sweep, world.tuning, world.tuning_truth):
            points.append(point)
            searches.append(search)
    enough = [n for n, point in enumerate(points) if point.suffices]
    if not enough:
        best = max(point.recall for point in points)
        raise RuntimeError(f"nothing reaches recall {TARGET}; the best is {best}")
    best = _fastest(enough, points, searches, world.tuning)
    print(
        json.dumps(
            {
                "build_seconds": build_seconds,
                "chosen": dataclasses.asdict(points[best]),
                "points": [dataclasses.asdict(point) for point in points],
            }
        ),
        flush=True,
    )
    for _ in sys.stdin:
        seconds, rows = timed(searches[best], world.measuring)
        answer = {
            "queries_per_second": len(rows) / seconds,
            "recall": float(recalls(rows, world.measuring_truth).mean()),
        }
        print(json.dumps(answer), flush=True)


def sweep_points(
    sweep: Sweep, queries: np.ndarray, truth: np.ndarray
) -> list[tuple[Point, Search]]:
    """Returns points of a sweep, among them the least effort that suffices."""
    found: dict[int, tuple[Point, Search]] = {}

    def suffices(place: int) -> bool:
        if place not in found:
            effort = sweep.efforts[place]
            search = sweep.search_with(effort)
            search(queries[:1])
            seconds, rows = timed(search, queries)
            each = recalls(rows, truth)
            point = Point(
                sweep.setting | {sweep.effort_name: effort},
                float(each.mean()),
                float(each.std() / len(each) ** 0.5),
                len(queries) / seconds,
            )
            found[place] = (point, search)
        return found[place][0].suffices

    # Doubling first: the greatest efforts take long and are seldom needed.
    low, high = 0, 0
    while not suffices(high) and high < len(sweep.efforts) - 1:
        low, high = high, min(2 * high + 1, len(sweep.efforts) - 1)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle + 1, high)
    return [found[place] for place in sorted(found)]


def growing(first: int, last: int, factor: float = 1.08) -> list[int]:
    """Returns whole numbers from `first` to `last`, each about `factor` times more."""
    numbers = [first]
    while numbers[-1] < last:
        numbers.append(min(last, max(numbers[-1] + 1, round(numbers[-1] * factor))))
    return numbers


def timed(search: Search, queries: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the CPU seconds of this process that a search took, and its rows."""
    begin = time.process_time()
    rows = search(queries)
    return time.process_time() - begin, rows


def use_one_core(core: int) -> None:
    """Holds all threads of this process on one core."""
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), {core})


def _fastest(
    places: Sequence[int],
    points: Sequence[Point],
    searches: Sequence[Search],
    queries: np.ndarray,
) -> int:
    """Measures the quickest again, in turns; returns the place of the best."""
    places = sorted(places, key=lambda n: -points[n].queries_per_second)[:_FINALISTS]
    seconds: dict[int, list[float]] = {place: [] for place in places}
    for _ in range(_ROUNDS):
        for place in places:
            seconds[place].append(timed(searches[place], queries)[0])
    return min(places, key=lambda place: float(np.median(seconds[place])))


def arguments() -> tuple[World, int, bool]:
    """Returns the world, the core and whether to be quick, from the command line."""
    folder, core, quick = sys.argv[1:]
    return World.load(Path(folder)), int(core), quick == "quick"
