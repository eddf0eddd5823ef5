"""`implicit`'s ALS; a history is folded in by its own `recalculate_user`.

Run as `python -m benchmarks.peers.retrieval_als CONTEST OUTCOME [--quick]`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from implicit.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from benchmarks.retrieval_baselines import history_weights, interaction_matrix
from benchmarks.retrieval_contest import Setting, compete_by_files, grid
from benchmarks.retrieval_data import Task
from models.retrieval.evaluation import Scorer


class Als:
    """Factors of the interactions; the user's are solved anew for each history."""

    def __init__(self, learning: Sequence[Setting], reading: Sequence[Setting]):
        self._learning = learning
        self._reading = reading

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        for learning in self._learning:
            model = _fit(task, **learning)
            for reading in self._reading:
                setting = {"learning": learning, "reading": reading}
                yield setting, _scorer(task, model, reading)

    def learn(self, task: Task, setting: Setting) -> Scorer:
        return _scorer(task, _fit(task, **setting["learning"]), setting["reading"])


def _fit(task: Task, **learning) -> AlternatingLeastSquares:
    model = AlternatingLeastSquares(random_state=0, **learning)
    met = interaction_matrix(task.train, task.num_users, task.num_items)
    # Its threads and BLAS's would fight for the cores.
    with threadpool_limits(1, "blas"):
        model.fit(met, show_progress=False)
    return model


def _scorer(task: Task, model: AlternatingLeastSquares, reading: Setting) -> Scorer:
    weights = history_weights(task.histories, task.num_items, **reading)
    with threadpool_limits(1, "blas"):
        users = model.recalculate_user(np.arange(len(task.rows)), weights)
    return lambda places: users[places] @ model.item_factors.T


FULL = Als(
    grid(
        factors=[32, 64, 128],
        regularization=[0.01, 1.0, 10.0],
        alpha=[1.0, 5.0, 20.0],
        iterations=[15],
    ),
    grid(last=[10, 20, 50, None]) + grid(half_life=[2.0, 4.0, 8.0, 16.0, 32.0]),
)
QUICK = Als(
    grid(factors=[64], regularization=[1.0], alpha=[1.0, 5.0], iterations=[15]),
    grid(last=[20, 50, None]),
)

if __name__ == "__main__":
    compete_by_files({False: FULL, True: QUICK})
