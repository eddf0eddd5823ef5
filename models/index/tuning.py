"""Finds the fastest search that reaches a recall target on queries held out for it.

How many partitions a search looks at and how many candidates it scores exactly are
given with each search, so one built index is tried with many; only another size of the
codes' blocks is another build. What is compared is measured: recall against exact
search, and queries per second on this machine.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from models.index.recall import in_batches, recalls, true_rows
from models.index.scann_index import ScannIndex
from models.index_settings import IndexSettings

TUNED_K = 100
# Candidates scored exactly for each result, from the most: with the fewest leaves.
_REORDERED = (10.0, 7.0, 5.0, 3.5, 2.5, 2.0, 1.5, 1.25, 1.0)
_GROWTH = 1.5  # of the leaves, until they suffice
_CLOSE = 1.05  # leaves are found to within this factor
# Past this factor, more leaves cost more than any saving on candidates brings.
_MAX_MORE_LEAVES = 4
_FINALISTS, _ROUNDS = 4, 3
# One-sided 95 %: a recall measured on few queries counts for less.
_CONFIDENCE = 1.645


class IndexTuningError(ValueError):
    """No setting reaches the recall target."""


@dataclasses.dataclass(frozen=True)
class TuningPoint:
    """One setting and what it came to.

    Attributes:
        num_leaves: partitions looked at; 0 where the index has none.
        num_reordered: candidates scored exactly.
        dimensions_per_block: dimensions a code stands for.
        recall: share of the exact top k found, the mean over queries.
        recall_error: standard error of `recall`.
        queries_per_second: in batches, one after the other.
    """

    num_leaves: int
    num_reordered: int
    dimensions_per_block: int
    recall: float
    recall_error: float
    queries_per_second: float

    def reaches(self, target: float) -> bool:
        """Whether other queries, too, may be expected to see this recall."""
        return self.recall - _CONFIDENCE * self.recall_error >= target


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What was tried, and the best of it.

    Attributes:
        best: the fastest point that reaches the target.
        points: all that were measured.
        k: what recall was measured at.
        target: what recall had to be reached.
    """

    best: TuningPoint
    points: tuple[TuningPoint, ...]
    k: int
    target: float


Evaluate = Callable[[int, int], TuningPoint]  # of leaves and candidates


class Measure:
    """Measures searches of one index on the same queries.

    Args:
        index: the index.
        queries: [Q, D] float32, Q >= 1.
        truth: int32 [Q, k], the exact answers.
        batch_size: queries searched at a time.
    """

    def __init__(
        self, index: ScannIndex, queries: np.ndarray, truth: np.ndarray, batch_size: int
    ):
        self._index = index
        self._truth = truth
        self._batches = [
            tf.constant(batch, tf.float32) for batch in in_batches(queries, batch_size)
        ]
        # One graph serves all settings: both counts are its inputs.
        self._search = tf.function(
            index.search_with,
            input_signature=[
                tf.TensorSpec([None, queries.shape[1]], tf.float32),
                *[tf.TensorSpec([], tf.int32)] * 3,
            ],
        )
        self._run(1, 1)  # traced, and the searcher made

    def __call__(self, num_leaves: int, num_reordered: int) -> TuningPoint:
        """Returns the recall and the speed of one setting."""
        seconds, rows = self._run(num_leaves, num_reordered)
        each = recalls(rows, self._truth)
        return TuningPoint(
            num_leaves,
            num_reordered,
            self._index.settings.dimensions_per_block,
            float(each.mean()),
            float(each.std() / len(each) ** 0.5),
            len(each) / seconds,
        )

    def _run(self, num_leaves: int, num_reordered: int) -> tuple[float, np.ndarray]:
        counts = [
            tf.constant(count, tf.int32)
            for count in (self._truth.shape[1], num_leaves, num_reordered)
        ]
        begin = time.perf_counter()
        answers = [self._search(batch, *counts)[1] for batch in self._batches]
        seconds = time.perf_counter() - begin
        return seconds, np.concatenate([rows.numpy() for rows in answers])


def tune_index(
    index: ScannIndex,
    queries: np.ndarray,
    target: float | None = None,
    k: int = TUNED_K,
    batch_size: int = 64,
) -> tuple[ScannIndex, Tuning]:
    """Finds the fastest search of an index that reaches a recall target.

    Args:
        index: the index, which stays as it is.
        queries: [Q, D] float32, vectors of queries that nothing was trained on; a few
            hundred make the measured recall good to a percent.
        target: recall@k; the settings' `recall_target` by default.
        k: results asked for.
        batch_size: queries searched at a time; the speed is of such batches.

    Returns:
        (tuned, tuning): the same index, searched as the best point says, and the table
        of all points.

    Raises:
        IndexTuningError: if no setting reaches the target.
        ValueError: if there are no queries.
    """
    target = index.settings.recall_target if target is None else target
    k = min(k, index.num_items)
    truth = true_rows(index.exact(), queries, k)
    measure = Measure(index, queries, truth, batch_size)
    points = find_points(measure, index.num_leaves, index.num_items, k, target)
    tuning = Tuning(_fastest(points, measure, target), tuple(points), k, target)
    return index.searched_with(settings_of(tuning, index)), tuning


def settings_of(tuning: Tuning, index: ScannIndex) -> IndexSettings:
    """Returns the settings of an index, changed to search as `tuning` found best."""
    best = tuning.best
    changed: dict[str, float] = {
        "min_reordered": best.num_reordered,
        "reordered_per_result": max(1.0, best.num_reordered / tuning.k),
    }
    if index.num_leaves:
        changed["leaves_to_search"] = best.num_leaves / index.num_leaves
    return index.settings.model_copy(update=changed)


def find_points(
    evaluate: Evaluate, num_leaves: int, num_items: int, k: int, target: float
) -> list[TuningPoint]:
    """Measures what may be the fastest setting that reaches a target.

    For each number of candidates, from the most to the fewest, it looks for the fewest
    leaves that suffice: recall grows with both. Without leaves, the fewest candidates.

    Args:
        evaluate: measures a setting.
        num_leaves: of the index; 0 where it has none.
        num_items: N.
        k: results asked for.
        target: recall@k.

    Returns:
        points: all that were measured, at least one of which reaches the target.

    Raises:
        IndexTuningError: if none does.
    """
    seen: dict[tuple[int, int], TuningPoint] = {}

    def suffices(leaves: int, reordered: int) -> bool:
        key = (leaves, reordered)
        if key not in seen:
            seen[key] = evaluate(*key)
        return seen[key].reaches(target)

    first = max(1, num_leaves // 100)
    most = num_leaves
    counts = list(dict.fromkeys(min(num_items, round(k * r)) for r in _REORDERED))
    for number, reordered in enumerate(counts):
        if not num_leaves:
            if not suffices(0, reordered):
                break
            continue
        leaves = _fewest_leaves(
            lambda leaves, reordered=reordered: suffices(leaves, reordered), first, most
        )
        if leaves is None:
            break
        first = leaves
        if number == 0:
            most = min(num_leaves, leaves * _MAX_MORE_LEAVES)
    points = list(seen.values())
    if not any(point.reaches(target) for point in points):
        raise IndexTuningError(_refusal(points, k, target))
    return points


def _fewest_leaves(
    suffices: Callable[[int], bool], first: int, most: int
) -> int | None:
    """Returns about the fewest leaves that suffice; None where `most` do not."""
    too_few, leaves = 0, first
    while not suffices(leaves):
        if leaves >= most:
            return None
        too_few, leaves = leaves, min(most, max(leaves + 1, round(leaves * _GROWTH)))
    while leaves - too_few > 1 and leaves > too_few * _CLOSE:
        middle = (leaves + too_few) // 2
        if suffices(middle):
            leaves = middle
        else:
            too_few = middle
    return leaves


def _fastest(
    points: Sequence[TuningPoint], evaluate: Evaluate, target: float
) -> TuningPoint:
    """Measures the quickest of those that suffice again, in turns."""
    enough = [point for point in points if point.reaches(target)]
    enough.sort(key=lambda point: -point.queries_per_second)
    finalists = enough[:_FINALISTS]
    speeds: list[list[float]] = [[] for _ in finalists]
    for _ in range(_ROUNDS):
        for speed, point in zip(speeds, finalists, strict=True):
            again = evaluate(point.num_leaves, point.num_reordered)
            speed.append(again.queries_per_second)
    medians = [statistics.median(speed) for speed in speeds]
    best = int(np.argmax(medians))
    return dataclasses.replace(finalists[best], queries_per_second=medians[best])


def _refusal(points: Sequence[TuningPoint], k: int, target: float) -> str:
    best = max(points, key=lambda point: point.recall)
    return (
        f"No search of this index reaches recall@{k} {target:.3g}: the best found "
        f"{best.recall:.4f} +- {best.recall_error:.4f}, with {best.num_leaves} leaves "
        f"and {best.num_reordered} candidates scored exactly. Set "
        f"`index.dimensions_per_block` below {best.dimensions_per_block}, "
        "`index.kind` to `exact`, or `index.recall_target` lower; or tune on more "
        "queries, since a recall counts by its lower bound."
    )
