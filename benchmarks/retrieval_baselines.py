"""Contenders that are a count or a linear map of the history: hard to beat on small data.

A history is read as weights of the items in it. Without decay all weigh 1; with decay the
newest weighs 1 and an item `half_life` places older half as much, be it exponential or
hyperbolic, which forgets the recent faster and the old slower.
"""

import abc
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.linalg
import scipy.sparse

from benchmarks.retrieval_contest import Setting, grid
from benchmarks.retrieval_data import Task
from models.retrieval.evaluation import Interactions, Scorer, popularity_scores

# Not taken from the schemas: peers read this file where nothing of Tandem's is installed.
_DAY_MS = 86_400_000


def history_weights(
    histories: Sequence[np.ndarray],
    num_items: int,
    last: int | None = None,
    half_life: float | None = None,
    is_hyperbolic: bool = False,
) -> scipy.sparse.csr_matrix:
    """Returns [n, items] the weight of each item in each history.

    weight[age] = 2^(-age / half_life)  or  1 / (1 + age / half_life),  age 0 is the newest

    Args:
        histories: items, oldest first.
        num_items: size of the catalogue.
        last: only the newest so many count; None counts all.
        half_life: in places; None weighs all 1.
        is_hyperbolic: whether the second form holds.
    """
    kept = [items[-last:] if last else items for items in histories]
    lengths = np.array([len(items) for items in kept])
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    age = np.repeat(bounds[1:], lengths) - 1 - np.arange(bounds[-1])
    if half_life is None:
        weights = np.ones(len(age))
    elif is_hyperbolic:
        weights = 1 / (1 + age / half_life)
    else:
        weights = 2.0 ** (-age / half_life)
    items = np.concatenate(kept) if kept else np.zeros(0, np.int64)
    return scipy.sparse.csr_matrix(
        (weights.astype(np.float32), items, bounds), shape=(len(kept), num_items)
    )


def interaction_matrix(
    train: Interactions, num_users: int, num_items: int
) -> scipy.sparse.csr_matrix:
    """Returns [users, items] 1 where the user met the item, as float32."""
    met = scipy.sparse.coo_matrix(
        (np.ones(len(train.items), np.float32), (train.users, train.items)),
        shape=(num_users, num_items),
    ).tocsr()
    met.data[:] = 1.0
    return met


class Popularity:
    """The number of training events of each item."""

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        yield {}, self.learn(task, {})

    def learn(self, task: Task, setting: Setting) -> Scorer:
        return _same_for_all(popularity_scores(task.train.items, task.num_items))


class RecentPopularity:
    """Training events of each item, an event `half_life_days` older half as heavy."""

    def __init__(self, half_lives: Sequence[float]):
        self._grid = grid(half_life_days=half_lives)

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        for setting in self._grid:
            yield setting, self.learn(task, setting)

    def learn(self, task: Task, setting: Setting) -> Scorer:
        train = task.train
        age = (train.timestamps[-1] - train.timestamps) / _DAY_MS
        weights = 2.0 ** (-age / setting["half_life_days"])
        return _same_for_all(np.bincount(train.items, weights, task.num_items))


def _same_for_all(scores: np.ndarray) -> Scorer:
    return lambda places: np.broadcast_to(scores, (len(places), len(scores)))


class Linear(abc.ABC):
    """score = weights of the history @ matrix between items, learnt without order."""

    def __init__(self, learning: Sequence[Setting], reading: Sequence[Setting]):
        self._learning = learning
        self._reading = reading

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        for learning in self._learning:
            matrix = self.matrix(task, **learning)
            for reading in self._reading:
                setting = {"learning": learning, "reading": reading}
                yield setting, self._scorer(task, matrix, reading)

    def learn(self, task: Task, setting: Setting) -> Scorer:
        matrix = self.matrix(task, **setting["learning"])
        return self._scorer(task, matrix, setting["reading"])

    def _scorer(self, task: Task, matrix: np.ndarray, reading: Setting) -> Scorer:
        weights = history_weights(task.histories, task.num_items, **reading)
        # BLAS on a dense copy is several times as fast as SciPy's sparse product.
        return lambda places: weights[places].toarray() @ matrix

    @abc.abstractmethod
    def matrix(self, task: Task, **learning) -> np.ndarray:
        """Returns [items, items] float32: what an item says for each other."""


class ItemKnn(Linear):
    """Cosine of the items' sets of users, shrunk, the nearest neighbours alone."""

    def matrix(
        self, task: Task, neighbours: int, shrinkage: float, asymmetry: float = 0.5
    ) -> np.ndarray:
        """See `Linear.matrix`.

        similarity[i, j] = |U_i and U_j| / (|U_i|^a |U_j|^(1 - a) + shrinkage)

        Args:
            task: to learn from.
            neighbours: for each j only the so many most similar i say something.
            shrinkage: distrusts what few users did.
            asymmetry: a; 0.5 is the cosine.
        """
        met = interaction_matrix(task.train, task.num_users, task.num_items)
        together = (met.T @ met).toarray()
        counts = together.diagonal().astype(np.float64)
        norm = np.outer(counts**asymmetry, counts ** (1 - asymmetry)) + shrinkage
        similarity = np.divide(
            together, norm, out=np.zeros_like(together), where=norm > 0
        )
        np.fill_diagonal(similarity, 0.0)
        if neighbours < len(similarity):
            least = np.partition(similarity, -neighbours, axis=0)[-neighbours]
            similarity[similarity < least] = 0.0
        return similarity.astype(np.float32)


class Ease(Linear):
    """EASE^R, the ridge regression of every item on all others."""

    def matrix(self, task: Task, regularization: float) -> np.ndarray:
        """See `Linear.matrix`.

        P = (X^T X + lambda I)^-1,  B[i, j] = -P[i, j] / P[j, j],  0 on the diagonal

        References:
            [1] Steck. Embarrassingly Shallow Autoencoders for Sparse Data. WWW 2019.
                Eq. (8).
        """
        met = interaction_matrix(task.train, task.num_users, task.num_items)
        gram = (met.T @ met).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += regularization
        inverse = scipy.linalg.inv(gram, overwrite_a=True)
        weights = inverse / -inverse.diagonal()
        np.fill_diagonal(weights, 0.0)
        return weights.astype(np.float32)
