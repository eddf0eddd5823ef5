"""How fast 1,000 items come and 1,000 go, without building the index anew.

A release over a catalogue of clustered vectors, searched by ScaNN, is refreshed: the new
items are embedded by its own tower, searched exactly beside the index as it was built,
and those that are gone are passed over; four models are written anew and tried. Beside
it, the same items by a full export, whose index is built and tuned of them alone.

The towers need no training here: an item's vector is a feature of it, as if embedded
elsewhere, and a user's is that of an item of the history. What is said of the answers:

* `exact_answers_equal`: share of the users to whom `recommender_exact` gives the same 100
  items, in the same order, as that of the full export.
* `main_answers_equal`: share of the queries for which the refreshed index finds, of the
  items that stayed, the same as the index as it was built, asked for as many more as are
  gone.
* `fresh_found`: share of the new items among a query's true 100 best that the refreshed
  index finds; they are searched exactly, so all of them.
* `recall@100`, `recall@100_rebuilt`: of the two approximate indexes.

A refresh counts from the loaded process to the pushed version, without the serving gate,
which starts a server; so does the full export.
"""

import functools
import math
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import fresh_items_world as shop
from benchmarks.ann_world import World, nearest
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.result import Result, medians, spreads, versions_of
from components.build_index import ItemVectors
from components.export_recommender import ReleaseIndex, release_index
from components.refresh_release import BaseRelease, RefreshSettings, refresh_bundle
from models.index import Index
from serving.release_layout import list_releases

FULL_ITEMS, QUICK_ITEMS = 200_000, 100_000
ADDED = REMOVED = 1000
K = 100
ROUNDS = 3


def measured(work: Callable[[], object]) -> tuple[object, float, float]:
    """Returns what `work` returns, its seconds, and its CPU seconds."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - begin, time.process_time() - begin_cpu


def found_rows(index: Index, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns [Q, k] rows, some queries at a time."""
    batches = np.array_split(queries, max(1, len(queries) // 64))
    return np.concatenate([index.search(b, k)[1].numpy() for b in batches])


def compared_indexes(
    refreshed: ReleaseIndex, rebuilt: Index, vectors: ItemVectors, queries: np.ndarray
) -> dict[str, float]:
    """Returns the figures that say what the refreshed index finds.

    Args:
        refreshed: index of `vectors`.
        rebuilt: another, built of them alone.
        vectors: of the new catalogue; its last `ADDED` rows are new.
        queries: [Q, D].
    """
    embeddings = np.asarray(vectors.embeddings)
    truth = nearest(embeddings, queries, K)
    rows = found_rows(refreshed.built.index, queries, K)
    again = found_rows(rebuilt, queries, K)
    first_new = len(embeddings) - ADDED
    row_of = {item: row for row, item in enumerate(vectors.item_ids)}
    # The index as it was built, with today's row numbers; -1 where an item is gone.
    renumbered = np.array(
        [row_of.get(item, -1) for item in refreshed.main.vectors.item_ids] + [-1]
    )
    same, new, new_found = 0, 0, 0
    # As many as the refreshed index asks its own for; see `SegmentedIndex`.
    gone = refreshed.num_tombstones / refreshed.main.index.num_items
    more = found_rows(refreshed.main.index, queries, K + 8 + math.ceil(2 * K * gone))
    for true, found, before in zip(truth, rows, renumbered[more], strict=True):
        stayed = found[(found >= 0) & (found < first_new)]
        same += np.array_equal(stayed, before[before >= 0][: len(stayed)])
        of_new = true[true >= first_new]
        new += len(of_new)
        new_found += int(np.isin(of_new, found).sum())
    return {
        "main_answers_equal": same / len(queries),
        "fresh_found": new_found / max(new, 1),
        "fresh_in_truth": new / truth.size,
        f"recall@{K}": recall(rows, truth),
        f"recall@{K}_rebuilt": recall(again, truth),
    }


def recall(rows: np.ndarray, truth: np.ndarray) -> float:
    shares = [np.isin(t, r).mean() for t, r in zip(truth, rows, strict=True)]
    return float(np.mean(shares))


def run(folder: Path, num_items: int, seed: int) -> dict[str, list[float]]:
    """Returns what each figure came to, in each round where there are several."""
    world = World.draw(num_items + ADDED, seed)
    trained = shop.open_shop(folder, world)
    old = shop.write_items(folder / "old", range(num_items))
    numbers = range(REMOVED, num_items + ADDED)
    new = shop.write_items(folder / "new", numbers)
    say(f"exporting a release of {num_items:,} items")
    shop.export(trained, folder / "first", old)
    shop.push(trained, folder / "first", old, "served")
    root = folder / "served" / "serving"
    base = BaseRelease(root, list_releases(root)[-1])
    settings = RefreshSettings(shop.SETTINGS.index, shop.GATE, may_build=False)
    found: dict[str, list[float]] = {}

    def refresh(number: int) -> Path:
        bundle = folder / f"refreshed{number}"
        made = refresh_bundle(base, new, bundle, settings)
        if not made.gate.passed:
            raise RuntimeError(made.gate.reason)
        manifest = shop.push(trained, bundle, new, f"served{number}")
        served = folder / f"served{number}" / "serving"
        return served / "recommender_exact" / str(manifest.version)

    def rebuild() -> Path:
        shop.export(trained, folder / "again", new)
        manifest = shop.push(trained, folder / "again", new, "served_again")
        served = folder / "served_again" / "serving"
        return served / "recommender_exact" / str(manifest.version)

    for number in range(ROUNDS):
        model, seconds, cpu = measured(functools.partial(refresh, number))
        _note(found, "refresh", seconds, cpu)
        say(f"refreshed and pushed in {seconds:.1f} s, {cpu:.1f} s of CPU")
    again, seconds, cpu = measured(rebuild)
    _note(found, "rebuild", seconds, cpu)
    say(f"exported anew and pushed in {seconds:.1f} s, {cpu:.1f} s of CPU")
    pairs = zip(*(shop.answers(trained, m, K) for m in (model, again)), strict=True)
    equal = [np.array_equal(ours, theirs) for ours, theirs in pairs]
    found["exact_answers_equal"] = [float(np.mean(equal))]
    _compare(found, base, world, numbers)
    for kind in ("s", "cpu_s"):
        ratios = [found[f"rebuild_{kind}"][0] / one for one in found[f"refresh_{kind}"]]
        found[f"rebuild_to_refresh_{kind}"] = ratios
    return found


def _compare(
    found: dict[str, list[float]], base: BaseRelease, world: World, numbers: range
) -> None:
    """Times the index alone, both ways, and compares what the two find."""
    vectors = ItemVectors(
        [f"i{n}" for n in numbers], world.items[numbers.start : numbers.stop]
    )
    index, main = shop.SETTINGS.index, base.parts.main()
    refreshed, seconds, _ = measured(
        lambda: release_index(vectors, world.tuning, index, K, main, may_build=False)
    )
    found["index_refresh_s"] = [seconds]
    rebuilt, seconds, _ = measured(
        lambda: release_index(vectors, world.tuning, index, K)
    )
    found["index_rebuild_s"] = [seconds]
    figures = compared_indexes(refreshed, rebuilt.built.index, vectors, world.measuring)
    found |= {key: [float(value)] for key, value in figures.items()}


def _note(found: dict, kind: str, seconds: float, cpu: float) -> None:
    found.setdefault(f"{kind}_s", []).append(seconds)
    found.setdefault(f"{kind}_cpu_s", []).append(cpu)


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("fresh_items", __doc__)
    begin = time.monotonic()
    num_items = QUICK_ITEMS if arguments.quick else FULL_ITEMS
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        found = run(Path(folder), num_items, arguments.seed)
    result = Result(
        name="fresh_items",
        figures=medians(found),
        intervals=spreads(found),
        versions={
            "python": platform.python_version(),
            **versions_of("scann", "tensorflow", "numpy"),
        },
        data={
            "items": num_items,
            "added": ADDED,
            "removed": REMOVED,
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
