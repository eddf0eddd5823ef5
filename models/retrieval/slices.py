"""Groups of test events in which a model can be good or bad: by user, by item.

A slice is a list of labels and, for each event, the place of its label; -1 where the
event belongs to none, which is counted nowhere in the slice.
"""

import dataclasses
import itertools

import numpy as np

from models.retrieval.recommended_items import popularity_percentiles
from schemas.events import DAY_MS

_HISTORY_BOUNDS = (1, 5, 20, 50, 200)
_AGE_BOUNDS_DAYS = (1, 7, 30, 90, 365)
_NUM_DECILES = 10


@dataclasses.dataclass(frozen=True)
class Slicing:
    """One way to group the test events.

    Attributes:
        labels: a short text for each group.
        groups: [n] int, the place of each event's label; -1 for none.
    """

    labels: tuple[str, ...]
    groups: np.ndarray


def by_history_length(num_earlier: np.ndarray) -> Slicing:
    """Groups events by how many strictly earlier events their user has."""
    bounds = np.array(_HISTORY_BOUNDS)
    return Slicing(
        range_labels(bounds, whole=True),
        np.searchsorted(bounds, num_earlier, side="right"),
    )


def by_item_age(
    timestamps: np.ndarray, items: np.ndarray, item_times: np.ndarray
) -> Slicing:
    """Groups events by how old their item is, in days.

    Args:
        timestamps: [n] int64, ms, of the events.
        items: [n] rows of the catalogue, -1 for an item outside of it.
        item_times: [N] int64, ms, when each item came; -1 where that is not known. An
            item that came later than its own event counts as new.
    """
    came = np.where(items >= 0, item_times[np.maximum(items, 0)], -1)
    bounds = np.array(_AGE_BOUNDS_DAYS)
    groups = np.searchsorted(bounds * DAY_MS, timestamps - came, side="right")
    return Slicing(range_labels(bounds, whole=False), np.where(came >= 0, groups, -1))


def by_popularity(items: np.ndarray, train_counts: np.ndarray) -> Slicing:
    """Groups events by the decile of their item among the items of the train split.

    Items of equal counts are in one decile, so a decile can be empty; an item that the
    train split does not hold is in a group of its own.

    Args:
        items: [n] rows of the catalogue, -1 for an item outside of it.
        train_counts: [N] training events of each item.
    """
    decile = np.zeros(len(train_counts), np.int64)
    trained = train_counts > 0
    if trained.any():
        share = popularity_percentiles(train_counts[trained])
        decile[trained] = 1 + np.minimum(
            np.floor(share * _NUM_DECILES).astype(np.int64), _NUM_DECILES - 1
        )
    labels = ("not in train", *(str(place) for place in range(1, _NUM_DECILES + 1)))
    groups = np.where(items >= 0, decile[np.maximum(items, 0)], -1)
    return Slicing(labels, groups)


def range_labels(bounds: np.ndarray, whole: bool) -> tuple[str, ...]:
    """Returns a label for what lies below, between and above ascending bounds."""
    labels = [f"< {bounds[0]}" if bounds[0] > 1 or not whole else "0"]
    for low, high in itertools.pairwise(bounds):
        last = high - 1 if whole else high
        labels.append(f"{low} to {last}" if last > low else str(low))
    return (*labels, f">= {bounds[-1]}")
