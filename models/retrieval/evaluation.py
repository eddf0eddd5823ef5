"""How good a retrieval model is: ranks of held-out items, with intervals.

Every test event is ranked against all items but those the user met before it. Scores
that tie with the held-out item's count half, so a model that scores everything alike
gains nothing. Pure NumPy; whoever has scores can be measured: towers, popularity,
item-kNN, another library.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import scipy.sparse

from models.retrieval.intervals import UserBootstrap

CUTOFFS = (10, 50, 100)
_CHUNK = 1024
_MAX_SCORES = 2**24  # held at a time: 64 MiB of float32


class SeenBefore(Sequence[np.ndarray]):
    """For each of some events, the items of strictly earlier events of its user.

    Looked up when asked for: all at once they can be as many as events squared.

    Args:
        items: [N] int64, items of all events, by user and then by time; -1 where an
            item is not in the catalogue.
        first: [n] where the events of each event's user begin in `items`.
        last: [n] where those that are strictly earlier end.
    """

    def __init__(self, items: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        self._items = items
        self._first = first
        self._last = last

    @property
    def num_events(self) -> np.ndarray:
        """Returns [n] how many strictly earlier events each event's user has."""
        return self._last - self._first

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, place: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, place: slice) -> "SeenBefore": ...

    def __getitem__(self, place):
        if isinstance(place, slice):
            return SeenBefore(self._items, self._first[place], self._last[place])
        earlier = self._items[self._first[place] : self._last[place]]
        return earlier[earlier >= 0]


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Positive events in order of time, with what their user met before each.

    Attributes:
        users: [N] user ids, or any numbers that tell users apart.
        items: [N] int64, rows of the catalogue; -1 where the item is not in it.
        timestamps: [N] int64, ms.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray

    def seen_before(self, rows: np.ndarray) -> SeenBefore:
        """Returns, for each of `rows`, the items of strictly earlier events of its user."""
        order = np.lexsort((self.timestamps, self.users))
        users, timestamps = self.users[order], self.timestamps[order]
        wanted = self.users[rows]
        first = np.searchsorted(users, wanted, side="left")
        last = np.searchsorted(users, wanted, side="right")
        for place, row in enumerate(rows):
            of_user = timestamps[first[place] : last[place]]
            last[place] = first[place] + np.searchsorted(of_user, self.timestamps[row])
        return SeenBefore(self.items[order], first, last)


Scorer = Callable[[np.ndarray], np.ndarray]  # rows [n] -> scores [n, items]


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What one pass over a model's scores finds.

    Attributes:
        ranks: [n] float64, of the held-out items; 0 is best, inf cannot be found.
        top: [n, k] int64, the best unseen items, best first; -1 where there are fewer.
    """

    ranks: np.ndarray
    top: np.ndarray


def rank_events(
    scorer: Scorer,
    rows: np.ndarray,
    positives: np.ndarray,
    seen: Sequence[np.ndarray],
    k: int,
    chunk_size: int = _CHUNK,
) -> Ranking:
    """Scores each row once: the rank of its held-out item, and the best k items.

    rank = #{unseen j: score_j > score_y} + 1/2 #{unseen j != y: score_j = score_y}

    Args:
        scorer: gives the scores of all items for a chunk of `rows`.
        rows: [n] identifies the test events to `scorer`.
        positives: [n] int64 held-out items; -1 (not in the index) has the rank inf, a
            miss at every cut-off. Where a score is NaN it counts as -inf, below all
            others.
        seen: n arrays of items to leave out. A held-out item met before stays in for
            its rank, but not in the best k, which know nothing of what is held out.
        k: length of the lists; equal scores stand in the order of the items' rows. What
            scores -inf is in none.
        chunk_size: rows scored at a time.

    Returns:
        The ranks, and [n, min(k, items)] rows of items.
    """
    chunks = [
        _rank_chunk(scorer(rows[chunk]), positives[chunk], seen[chunk], k)
        for chunk in (
            slice(start, start + chunk_size)
            for start in range(0, len(rows), chunk_size)
        )
    ]
    return Ranking(
        np.concatenate([chunk.ranks for chunk in chunks]),
        np.concatenate([chunk.top for chunk in chunks]),
    )


def rows_per_chunk(num_items: int) -> int:
    """Returns how many events can be scored at a time in bounded memory."""
    return int(np.clip(_MAX_SCORES // max(num_items, 1), 1, _CHUNK))


def _rank_chunk(
    given: np.ndarray, positives: np.ndarray, seen: Sequence[np.ndarray], k: int
) -> Ranking:
    is_float = np.issubdtype(given.dtype, np.floating)
    scores = np.array(given, given.dtype if is_float else np.float64)
    # NaN is neither above nor equal to anything: a diverged model would rank first.
    scores[np.isnan(scores)] = -np.inf
    known = positives >= 0
    own_place = np.maximum(positives, 0)
    events = np.arange(len(scores))
    seen = list(seen)
    own = np.where(known, scores[events, own_place], -np.inf)
    out_rows = np.repeat(events, [len(items) for items in seen])
    out_items = np.concatenate([np.zeros(0, np.int64), *seen])
    scores[out_rows, out_items] = np.nan  # so that no comparison counts it
    own = own.astype(scores.dtype)[:, np.newaxis]
    above = np.count_nonzero(scores > own, axis=1)
    ties = np.count_nonzero(scores == own, axis=1)
    ties -= scores[events, own_place] == own[:, 0]  # with itself, unless it was seen
    ranks = np.where(known, above + ties / 2, np.inf)
    scores[out_rows, out_items] = -np.inf
    return Ranking(ranks, best_rows(scores, k))


def best_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the columns of the k largest scores of each row, largest first.

    Args:
        scores: [n, items] float without NaN; equal scores stand in the order of their
            columns.
        k: how many.

    Returns:
        [n, min(k, items)] int64; -1 in place of what scores -inf.
    """
    num_rows, num_items = scores.shape
    k = min(k, num_items)
    if k == 0:
        return np.zeros((num_rows, 0), np.int64)
    columns = np.argpartition(scores, num_items - k, axis=1)[:, num_items - k :]
    found = np.take_along_axis(scores, columns, axis=1)
    least = found.min(axis=1, keepdims=True)
    num_ties = np.count_nonzero(scores == least, axis=1)
    kept_ties = np.count_nonzero(found == least, axis=1)
    # Where not all that tie with the last one fit, the first of them are taken.
    for row in np.flatnonzero((num_ties > kept_ties) & (least[:, 0] > -np.inf)):
        above = np.flatnonzero(scores[row] > least[row])
        equal = np.flatnonzero(scores[row] == least[row])
        columns[row] = np.concatenate([above, equal[: k - len(above)]])
    columns.sort(axis=1)
    found = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-found, axis=1, kind="stable")
    columns = np.take_along_axis(columns, order, axis=1)
    found = np.take_along_axis(found, order, axis=1)
    return np.where(found > -np.inf, columns, -1)


def ranks_of_positives(
    scorer: Scorer,
    rows: np.ndarray,
    positives: np.ndarray,
    seen: Sequence[np.ndarray],
) -> np.ndarray:
    """Returns the ranks of `rank_events` alone: [n] float64, 0 is best."""
    return rank_events(scorer, rows, positives, seen, k=0).ranks


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns [n] 1 where the held-out item is in the top k, else 0."""
    return (ranks < k).astype(np.float64)


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns [n] 1 / log2(rank + 2) within the top k, else 0: NDCG of one positive."""
    return np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)


def reciprocal_ranks(ranks: np.ndarray) -> np.ndarray:
    """Returns [n] 1 / (rank + 1); 0 for what is not in the index."""
    return 1.0 / (ranks + 1.0)


def bootstrap_interval(
    values: np.ndarray, users: np.ndarray, seed: int = 0, num_resamples: int = 1000
) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of `values`, resampling users.

    Args:
        values: [n] one figure per event.
        users: [n] whose event it is.
        seed: seeds the draws.
        num_resamples: number of draws.

    Returns:
        (low, high): the 2.5 % and 97.5 % quantiles of the resampled means.
    """
    draws = UserBootstrap(users, seed, num_resamples)
    low, high = draws.intervals(np.asarray(values)[:, np.newaxis])[0, 0]
    return float(low), float(high)


def popularity_scores(train_items: np.ndarray, num_items: int) -> np.ndarray:
    """Returns [items] the number of training events of each item."""
    return np.bincount(train_items[train_items >= 0], minlength=num_items).astype(float)


def recent_rows(timestamps: np.ndarray, share: float) -> np.ndarray:
    """Returns the rows of the latest `share` of events, at least one; any order."""
    size = max(1, round(share * len(timestamps)))
    return np.argsort(timestamps, kind="stable")[-size:]


def item_knn_similarity(
    train_users: np.ndarray, train_items: np.ndarray, num_items: int
) -> scipy.sparse.csr_matrix:
    """Returns [items, items] cosine similarity of the items' sets of users.

    similarity[i, j] = |U_i and U_j| / sqrt(|U_i| |U_j|),  0 on the diagonal

    References:
        [1] Sarwar et al. Item-Based Collaborative Filtering Recommendation Algorithms.
            WWW 2001. Section 3.1.1, on binary ratings.
    """
    _, user = np.unique(train_users, return_inverse=True)
    known = train_items >= 0
    pairs = (user[known], train_items[known])
    counts = scipy.sparse.coo_matrix(
        (np.ones(known.sum()), pairs), shape=(user.max(initial=0) + 1, num_items)
    ).tocsr()
    counts.data[:] = 1.0  # an item met twice is met
    together = (counts.T @ counts).tocsr()
    norm = np.sqrt(together.diagonal())
    scale = scipy.sparse.diags(
        np.divide(1.0, norm, out=np.zeros_like(norm), where=norm > 0)
    )
    similarity = (scale @ together @ scale).tocsr()
    own = scipy.sparse.diags(similarity.diagonal())
    return (similarity - own).tocsr()  # x - x is 0 to the bit
