"""Which items a model recommends at all: coverage, concentration, popularity.

Pure NumPy on the rows that `evaluation.rank_events` found; nothing here looks at what
the user did next.
"""

import numpy as np
import scipy.stats


def recommendation_counts(top: np.ndarray, num_items: int) -> np.ndarray:
    """Returns [items] in how many lists each item is.

    Args:
        top: [n, k] int, rows of items; -1 where a list is shorter.
        num_items: size of the index.
    """
    return np.bincount(top[top >= 0], minlength=num_items)


def coverage(counts: np.ndarray) -> float:
    """Returns the share of items that are in at least one list."""
    return float((counts > 0).mean())


def gini(counts: np.ndarray) -> float:
    """Returns how unequally the recommendations fall on the items.

    gini = sum_i (2 i - N - 1) x_(i) / (N sum_i x_(i)),   x_(1) <= ... <= x_(N)

    0 where every item is recommended alike, (N - 1) / N where one item has all.

    Args:
        counts: [N] how often each item is recommended, the never recommended included.
    """
    ordered = np.sort(counts).astype(np.float64)
    size, total = len(ordered), ordered.sum()
    if total == 0:
        return 0.0
    weights = 2 * np.arange(1, size + 1) - size - 1
    return float(weights @ ordered / (size * total))


def popularity_percentiles(counts: np.ndarray) -> np.ndarray:
    """Returns [N] how popular each item is among the others, in (0, 1).

    percentile_i = (#{j: count_j < count_i} + 1/2 #{j: count_j = count_i}) / N

    A model that picks items at random has a mean of 1/2.
    """
    return (scipy.stats.rankdata(counts) - 0.5) / len(counts)


def mean_percentiles(top: np.ndarray, percentiles: np.ndarray) -> np.ndarray:
    """Returns [n] the mean percentile of each list; NaN for an empty one."""
    found = top >= 0
    total = np.where(found, percentiles[np.maximum(top, 0)], 0.0).sum(axis=1)
    size = found.sum(axis=1)
    return np.divide(total, size, out=np.full(len(top), np.nan), where=size > 0)
