"""Small histograms: shares by bar, on one scale for all splits of a feature."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

WIDTH, HEIGHT = 150, 32  # of a histogram, in CSS pixels
NUM_BARS = 25
MAX_VALUES = 20


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar; what it stands for is in `title`."""

    x: float
    y: float
    width: float
    height: float
    title: str


def number_bars(
    by_split: Mapping[str, statistics_pb2.NumericStatistics],
) -> dict[str, list[Bar]]:
    """Returns the histogram of each split over the range of all of them."""
    edges = _edges(list(by_split.values()))
    if edges is None:
        return {}
    shares = {split: _rebucketed(numbers, edges) for split, numbers in by_split.items()}
    titles = [f"{a:.6g} to {b:.6g}" for a, b in itertools.pairwise(edges)]
    return _drawn(shares, titles)


def value_bars(
    by_split: Mapping[str, Mapping[str, float]],
) -> dict[str, list[Bar]]:
    """Returns the shares of the most frequent values, in one order for all splits.

    Args:
        by_split: share of each value.
    """
    largest: dict[str, float] = {}
    for shares in by_split.values():
        for value, share in shares.items():
            largest[value] = max(share, largest.get(value, 0.0))
    values = sorted(largest, key=lambda value: (-largest[value], value))[:MAX_VALUES]
    if not values:
        return {}
    shares = {
        split: np.array([found.get(value, 0.0) for value in values])
        for split, found in by_split.items()
    }
    return _drawn(shares, values)


def _edges(
    splits: Sequence[statistics_pb2.NumericStatistics],
) -> np.ndarray | None:
    counted = [numbers for numbers in splits if _buckets(numbers)]
    if not counted:
        return None
    low = min(numbers.min for numbers in counted)
    high = max(numbers.max for numbers in counted)
    if not np.isfinite(high - low):
        return None
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, NUM_BARS + 1)


def _buckets(numbers: statistics_pb2.NumericStatistics):
    for histogram in numbers.histograms:
        if histogram.type == statistics_pb2.Histogram.STANDARD:
            return histogram.buckets
    return ()


def _rebucketed(
    numbers: statistics_pb2.NumericStatistics, edges: np.ndarray
) -> np.ndarray:
    """Returns the share of the values between edges, even within TFDV's buckets."""
    counts = np.zeros(len(edges) - 1)
    for bucket in _buckets(numbers):
        if not np.isfinite([bucket.low_value, bucket.high_value]).all():
            continue
        width = bucket.high_value - bucket.low_value
        if width <= 0:  # a single value
            place = np.searchsorted(edges, bucket.low_value, side="right") - 1
            counts[np.clip(place, 0, len(counts) - 1)] += bucket.sample_count
            continue
        inside = np.minimum(edges[1:], bucket.high_value) - np.maximum(
            edges[:-1], bucket.low_value
        )
        counts += np.maximum(inside, 0) / width * bucket.sample_count
    return counts / max(counts.sum(), 1e-300)


def _drawn(
    shares: Mapping[str, np.ndarray], titles: Sequence[str]
) -> dict[str, list[Bar]]:
    highest = max(float(split.max()) for split in shares.values()) or 1.0
    step = WIDTH / len(titles)
    return {
        split: [
            Bar(
                x=round(place * step, 2),
                y=round(HEIGHT * (1 - share / highest), 2),
                width=round(max(step - 1, 0.5), 2),
                height=round(HEIGHT * share / highest, 2),
                title=f"{title}: {share:.2%}",
            )
            for place, (title, share) in enumerate(zip(titles, values, strict=True))
        ]
        for split, values in shares.items()
    }
