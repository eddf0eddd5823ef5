"""Groups of labelled rows in which a ranker can be good or bad."""

import numpy as np

from components.item_times import UNKNOWN
from components.read_examples import JudgedRows
from models.ranking.labelled_rows import NO_POSITION
from models.retrieval.slices import (
    Slicing,
    by_history_length,
    by_item_age,
    range_labels,
)

HISTORY_LENGTH = "history_length"
ITEM_AGE = "item_age_days"
POSITION = "position"
_POSITION_BOUNDS = (1, 2, 3, 5, 10, 20)


def by_position(positions: np.ndarray) -> Slicing:
    """Groups rows by where their item was shown; `NO_POSITION` is in no group."""
    bounds = np.array(_POSITION_BOUNDS)
    groups = np.searchsorted(bounds, positions, side="right")
    return Slicing(
        range_labels(bounds, whole=True), np.where(positions < 0, -1, groups)
    )


def slicings_of(test: JudgedRows, came: np.ndarray) -> dict[str, Slicing]:
    """Returns the ways to group the test rows, by name.

    A history is as long as the model sees it: at most `features.history_length`.

    Args:
        test: the rows.
        came: [n] int64, ms, when each row's item came; see `times_of_items`.

    Returns:
        By length of history and age of the item, and by position where any is known.
    """
    rows = np.arange(len(test.items))
    slicings = {
        HISTORY_LENGTH: by_history_length(test.history_lengths),
        ITEM_AGE: by_item_age(test.timestamps, rows, came),
    }
    if (test.positions != NO_POSITION).any():
        slicings[POSITION] = by_position(test.positions)
    return slicings


def times_of_items(
    wanted: np.ndarray, published: dict[bytes, int], *rows: JudgedRows
) -> np.ndarray:
    """Returns when items came: when they were published, else when first in a row.

    Args:
        wanted: [n] ids of items that the rows hold.
        published: ms, by id; may lack items or have `UNKNOWN` for them.
        *rows: all labelled rows there are.
    """
    ids, item = np.unique(
        np.concatenate([part.items for part in rows]), return_inverse=True
    )
    first = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(first, item, np.concatenate([part.timestamps for part in rows]))
    known = np.array([published.get(name, UNKNOWN) for name in ids], np.int64)
    came = np.where(known == UNKNOWN, first, known)
    return came[np.searchsorted(ids, wanted)]
