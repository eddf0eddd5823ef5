"""How far the frequency estimator is from what a finished stream of batches held.

Counting needs a whole epoch and a number for each item, which is why the estimator does
not count; here both are at hand, and the counts say how good its estimates are.
"""

import collections
import dataclasses
import zlib
from collections.abc import Iterable

import numpy as np

from models.retrieval.recommended_items import popularity_percentiles

_NUM_DECILES = 10


class StreamCounts:
    """In how many batches of a stream an item is.

    Args:
        max_items: memory's bound. Beyond it half of the items are dropped, by a hash of
            their ids, and so on: what is left is a sample that no item's popularity has
            a part in, and its counts are exact.

    Attributes:
        steps: batches so far.
    """

    def __init__(self, max_items: int = 1_000_000) -> None:
        self.steps = 0
        self._max_items = max_items
        self._modulus = 1
        self._hits: collections.Counter[bytes] = collections.Counter()

    def add(self, item_ids: Iterable[bytes]) -> None:
        """Counts one batch; a batch is a set, and one without items is none."""
        distinct = set(item_ids)
        if not distinct:
            return
        self.steps += 1
        self._hits.update(filter(self._is_sampled, distinct))
        while len(self._hits) > self._max_items:
            self._modulus *= 2
            kept = {i: n for i, n in self._hits.items() if self._is_sampled(i)}
            self._hits = collections.Counter(kept)

    def _is_sampled(self, item_id: bytes) -> bool:
        return self._modulus == 1 or zlib.crc32(item_id) % self._modulus == 0

    def hits(self) -> tuple[list[bytes], np.ndarray]:
        """Returns N item ids, and in how many of the batches each is, [N] int64."""
        hits = np.fromiter(self._hits.values(), np.int64, len(self._hits))
        return list(self._hits), hits


@dataclasses.dataclass(frozen=True)
class PresenceError:
    """What estimates of being in a batch come to beside exact counts.

    Attributes:
        log10: [N] log10(estimated / exact) of each item; above 0 where the estimator
            takes an item for more frequent than it is.
        mean_abs: mean of |log10| over the items.
        mean_abs_of_hits: the same, each item weighed by the batches that hold it: what
            the loss meets.
        mean_abs_by_decile: the same as `mean_abs` for the items of each decile of
            popularity, 10 the most popular; a decile without items is left out.
    """

    log10: np.ndarray
    mean_abs: float
    mean_abs_of_hits: float
    mean_abs_by_decile: dict[int, float]


def presence_error(
    log_presence: np.ndarray, hits: np.ndarray, steps: int
) -> PresenceError:
    """Compares estimates with counts.

    Args:
        log_presence: [N] natural log of each item's estimated chance of being in a
            batch.
        hits: [N] in how many batches it was, >= 1.
        steps: number of batches.

    Returns:
        The errors. Items of equal `hits` are in one decile.
    """
    log10 = log_presence / np.log(10) - np.log10(hits / steps)
    size = np.abs(log10)
    place = np.floor(popularity_percentiles(hits) * _NUM_DECILES).astype(np.int64)
    return PresenceError(
        log10=log10,
        mean_abs=float(size.mean()),
        mean_abs_of_hits=float(np.average(size, weights=hits)),
        mean_abs_by_decile={
            int(decile) + 1: float(size[place == decile].mean())
            for decile in np.unique(place)
        },
    )
