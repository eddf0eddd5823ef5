"""How good a retrieval model is: ranks of held-out items, with intervals.

Every test event is ranked against all items but those the user met before it. Scores
that tie with the held-out item's count half, so a model that scores everything alike
gains nothing. Pure NumPy; whoever has scores can be measured: towers, popularity,
item-kNN, another library.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse

CUTOFFS = (10, 50, 100)
_CHUNK = 1024


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Positive events in order of time, with what their user met before each.

    Attributes:
        users: [N] user ids, any hashable dtype.
        items: [N] int64, rows of the catalogue; -1 where the item is not in it.
        timestamps: [N] int64, ms.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray

    def seen_before(self, rows: np.ndarray) -> list[np.ndarray]:
        """Returns, for each of `rows`, the items of strictly earlier events of its user."""
        order = np.lexsort((self.timestamps, self.users))
        users, timestamps = self.users[order], self.timestamps[order]
        items = self.items[order]
        wanted = self.users[rows]
        first = np.searchsorted(users, wanted, side="left")
        last = np.searchsorted(users, wanted, side="right")
        seen = []
        for row, start, stop in zip(rows, first, last, strict=True):
            stop = start + np.searchsorted(timestamps[start:stop], self.timestamps[row])
            earlier = items[start:stop]
            seen.append(earlier[earlier >= 0])
        return seen


Scorer = Callable[[np.ndarray], np.ndarray]  # rows [n] -> scores [n, items]


def ranks_of_positives(
    scorer: Scorer,
    rows: np.ndarray,
    positives: np.ndarray,
    seen: Sequence[np.ndarray],
) -> np.ndarray:
    """Ranks each row's held-out item among the items the user has not met.

    rank = #{unseen j: score_j > score_y} + 1/2 #{unseen j != y: score_j = score_y}

    Args:
        scorer: gives the scores of all items for a chunk of `rows`.
        rows: [n] identifies the test events to `scorer`.
        positives: [n] int64 held-out items; -1 (not in the catalogue) ranks last.
            Where a score is NaN it counts as -inf, below all others.
        seen: n arrays of items to leave out; a held-out item met before stays in.

    Returns:
        ranks: [n] float64, 0 is best.
    """
    ranks = []
    for start in range(0, len(rows), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        scores = np.array(scorer(rows[chunk]), dtype=np.float64)
        # NaN is neither above nor equal to anything: a diverged model would rank first.
        scores[np.isnan(scores)] = -np.inf
        known = positives[chunk] >= 0
        own = np.where(
            known,
            scores[np.arange(len(scores)), np.maximum(positives[chunk], 0)],
            -np.inf,
        )[:, np.newaxis]
        for row, items in enumerate(seen[chunk]):
            scores[row, items] = np.nan  # so that no comparison counts it
        above = (scores > own).sum(axis=1)
        others = scores == own
        others[np.arange(len(scores)), np.maximum(positives[chunk], 0)] = False
        rank = above + others.sum(axis=1) / 2
        ranks.append(np.where(known, rank, scores.shape[1]))
    return np.concatenate(ranks)


def recall_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns [n] 1 where the held-out item is in the top k, else 0."""
    return (ranks < k).astype(np.float64)


def ndcg_at(ranks: np.ndarray, k: int) -> np.ndarray:
    """Returns [n] 1 / log2(rank + 2) within the top k, else 0: NDCG of one positive."""
    return np.where(ranks < k, 1.0 / np.log2(ranks + 2.0), 0.0)


def bootstrap_interval(
    values: np.ndarray, users: np.ndarray, seed: int = 0, num_resamples: int = 1000
) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of `values`, resampling users.

    The events of one user are not independent, so users are drawn, not events.

    Args:
        values: [n] one figure per event.
        users: [n] whose event it is.
        seed: seeds the draws.
        num_resamples: number of draws.

    Returns:
        (low, high): the 2.5 % and 97.5 % quantiles of the resampled means.
    """
    _, user = np.unique(users, return_inverse=True)
    sums = np.bincount(user, weights=values)
    counts = np.bincount(user)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), size=num_resamples
    )
    means = drawn @ sums / (drawn @ counts)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summarize(ranks: np.ndarray, users: np.ndarray) -> dict[str, float | list[float]]:
    """Returns recall at every cut-off and NDCG@10, each with its interval."""
    figures = {f"recall@{k}": recall_at(ranks, k) for k in CUTOFFS}
    figures["ndcg@10"] = ndcg_at(ranks, 10)
    summary: dict[str, float | list[float]] = {}
    for name, values in figures.items():
        summary[name] = float(values.mean())
        summary[f"{name}_interval"] = list(bootstrap_interval(values, users))
    return summary


def popularity_scores(train_items: np.ndarray, num_items: int) -> np.ndarray:
    """Returns [items] the number of training events of each item."""
    return np.bincount(train_items[train_items >= 0], minlength=num_items).astype(float)


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
    similarity = (scale @ together @ scale).tolil()
    similarity.setdiag(0.0)
    return similarity.tocsr()
