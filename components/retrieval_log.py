"""What a retrieval model is judged on, and the baselines that need no training."""

import dataclasses

import numpy as np
import scipy.sparse

from models.retrieval.evaluation import (
    Interactions,
    Scorer,
    item_knn_similarity,
    popularity_scores,
    recent_rows,
)

# Item-to-item similarities up to this size are multiplied as a dense matrix, 128 MiB of
# float32, which is several times faster where most items share a user.
_MAX_DENSE = 2**25


@dataclasses.dataclass(frozen=True)
class TestLog:
    """What an evaluation runs on.

    Attributes:
        interactions: all events of all splits, oldest split first; their items are rows
            of the catalogue.
        is_train: [N] bool, events the model learnt from.
        is_test: [N] bool, events to predict.
        histories: [N, items] how often each item is in the history feature of each test
            event; empty for the others.
        decayed_histories: the same, where the newest event weighs 1 and each older one a
            fixed share of the next.
        item_times: [items] int64, ms, when each item came; -1 where that is not known.
        candidates: [C] int64, rows of the catalogue that are in the index: what can be
            recommended.
    """

    __test__ = False  # not a test class, whatever pytest reads into the name

    interactions: Interactions
    is_train: np.ndarray
    is_test: np.ndarray
    histories: scipy.sparse.csr_matrix
    decayed_histories: scipy.sparse.csr_matrix
    item_times: np.ndarray
    candidates: np.ndarray

    @property
    def train_counts(self) -> np.ndarray:
        """Returns [items] the number of training events of each item."""
        return popularity_scores(
            self.interactions.items[self.is_train], len(self.item_times)
        )

    def among_candidates(self) -> Interactions:
        """Returns the events with rows of the index; -1 for what is not in it."""
        place = np.full(len(self.item_times) + 1, -1)  # the last one is for row -1
        place[self.candidates] = np.arange(len(self.candidates))
        return dataclasses.replace(
            self.interactions, items=place[self.interactions.items]
        )


def baselines(log: TestLog, recent_share: float) -> dict[str, Scorer]:
    """Returns scorers of the index's items that any model should beat.

    `popularity` counts the training events of an item and `recent_popularity` the latest
    share of them. `item_knn` sums the similarities to the items of a history, and
    `item_knn_decay` sums them weighted by how recent they are. Every one of them knows
    the whole catalogue, and is asked for what is in the index.
    """
    train = log.is_train
    items = log.interactions.items[train]
    recent = items[recent_rows(log.interactions.timestamps[train], recent_share)]
    num_items = len(log.item_times)
    similarity = item_knn_similarity(log.interactions.users[train], items, num_items)
    similarity = similarity[:, log.candidates].astype(np.float32)
    if similarity.shape[0] * similarity.shape[1] <= _MAX_DENSE:
        similarity = similarity.toarray()

    def alike(scores: np.ndarray) -> Scorer:
        return lambda rows: np.broadcast_to(scores, (len(rows), len(scores)))

    def neighbours(histories: scipy.sparse.csr_matrix) -> Scorer:
        def score(rows: np.ndarray) -> np.ndarray:
            scores = histories[rows].astype(np.float32) @ similarity
            return scores if isinstance(scores, np.ndarray) else scores.toarray()

        return score

    return {
        "popularity": alike(log.train_counts[log.candidates]),
        "recent_popularity": alike(
            popularity_scores(recent, num_items)[log.candidates]
        ),
        "item_knn": neighbours(log.histories),
        "item_knn_decay": neighbours(log.decayed_histories),
    }
