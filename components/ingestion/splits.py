"""The global time split: two cuts in time, from the exact rank of the timestamps."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from components.ingestion.settings import SplitSettings


@dataclasses.dataclass(frozen=True)
class SplitCuts:
    """Where eval and test begin, in ms; rows at a cut belong to the later split.

    `first` and `last` are the earliest and the latest timestamp of the log. All are 0
    for a log without events. `span_starts` says when each span of the log begins, the
    oldest first; see `spans.span_starts`.
    """

    first: int
    eval_from: int
    test_from: int
    last: int
    span_starts: Mapping[str, int] = dataclasses.field(default_factory=dict)


def split_cuts(
    timestamps: np.ndarray, settings: SplitSettings, test_from: int | None = None
) -> SplitCuts:
    """Cuts the log in time.

    With the N timestamps in order, test begins at that of rank N - round(N * test),
    and eval at that of rank M - round(M * eval) among the M rows before it. Rows that
    share a timestamp are never parted, so a split can be larger than its share.

    Args:
        timestamps: [N] int64, in any order.
        settings: the shares.
        test_from: where test begins, whatever its share; None goes by the share.

    Returns:
        The cuts.
    """
    if len(timestamps) == 0:
        return SplitCuts(0, 0, 0, 0)
    ordered = np.sort(timestamps)
    first, last = int(ordered[0]), int(ordered[-1])
    if test_from is None:
        test_from = _cut(ordered, settings.test_fraction, last + 1)
    rest = ordered[: np.searchsorted(ordered, test_from, side="left")]
    return SplitCuts(
        first, _cut(rest, settings.eval_fraction, test_from), test_from, last
    )


def split_of(timestamps: np.ndarray, cuts: SplitCuts) -> np.ndarray:
    """Returns the index in `schemas.events.SPLITS` of each timestamp's split."""
    bounds = np.array([cuts.eval_from, cuts.test_from])
    return np.searchsorted(bounds, timestamps, side="right").astype(np.int8)


def _cut(ordered: np.ndarray, fraction: float, nothing: int) -> int:
    """Returns the first timestamp of the latest `fraction`, or `nothing`."""
    num_later = round(len(ordered) * fraction)
    return int(ordered[len(ordered) - num_later]) if num_later else nothing
