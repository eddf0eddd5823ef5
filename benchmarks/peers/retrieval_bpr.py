"""`implicit`'s BPR; a history is folded in as the mean of its items, or solved for.

Run as `python -m benchmarks.peers.retrieval_bpr CONTEST OUTCOME [--quick] [--learning SETTING]`.
"""

from collections.abc import Iterator, Sequence

from implicit.bpr import BayesianPersonalizedRanking

from benchmarks.peers.fold_in import fold_in
from benchmarks.retrieval_baselines import history_weights, interaction_matrix
from benchmarks.retrieval_contest import Setting, compete_by_files, grid
from benchmarks.retrieval_data import Task
from models.retrieval.evaluation import Scorer


class Bpr:
    """Factors learnt from pairs; the user's are made of each history's items.

    Args:
        learning: settings of the model but its iterations.
        iterations: after how many of them it is looked at, ascending.
        reading: settings of `fold_in`.
    """

    def __init__(
        self,
        learning: Sequence[Setting],
        iterations: Sequence[int],
        reading: Sequence[Setting],
    ):
        self._learning = learning
        self._iterations = iterations
        self._reading = reading

    def narrowed(self, learning: Setting) -> "Bpr":
        """Returns one with a single setting but for iterations and reading."""
        rest = {name: value for name, value in learning.items() if name != "iterations"}
        return Bpr([rest], self._iterations, self._reading)

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        met = interaction_matrix(task.train, task.num_users, task.num_items)
        for learning in self._learning:
            model, done = BayesianPersonalizedRanking(random_state=0, **learning), 0
            for iterations in self._iterations:
                model.iterations = iterations - done
                model.fit(met, show_progress=False)  # goes on from what it has
                done = iterations
                for reading in self._reading:
                    setting = {
                        "learning": {**learning, "iterations": iterations},
                        "reading": reading,
                    }
                    yield setting, _scorer(task, model, reading)

    def learn(self, task: Task, setting: Setting) -> Scorer:
        met = interaction_matrix(task.train, task.num_users, task.num_items)
        model = BayesianPersonalizedRanking(random_state=0, **setting["learning"])
        model.fit(met, show_progress=False)
        return _scorer(task, model, setting["reading"])


def _scorer(task: Task, model: BayesianPersonalizedRanking, reading: Setting) -> Scorer:
    factors, bias = model.item_factors[:, :-1], model.item_factors[:, -1]
    weights = {name: reading[name] for name in reading.keys() & _WEIGHTS}
    histories = history_weights(task.histories, task.num_items, **weights)
    users = fold_in(histories, factors, reading["scale"], reading["ridge"])
    return lambda places: users[places] @ factors.T + bias


_WEIGHTS = {"last", "half_life"}
MEAN = grid(last=[5, 10, 20, 50, None], scale=[0.5, 1.0, 2.0], ridge=[None])
DECAY = grid(half_life=[2.0, 4.0, 8.0, 16.0], scale=[0.5, 1.0, 2.0], ridge=[None])
SOLVED = grid(half_life=[4.0, 16.0], scale=[1.0, 4.0], ridge=[1.0])
FULL = Bpr(
    grid(
        factors=[64, 128],
        learning_rate=[0.02, 0.05],
        regularization=[0.003, 0.01, 0.03],
    ),
    [50, 100, 200],
    MEAN + DECAY + SOLVED,
)
QUICK = Bpr(
    grid(factors=[64], learning_rate=[0.05], regularization=[0.01]),
    [100],
    grid(last=[10, 50], scale=[1.0, 4.0], ridge=[None]),
)

if __name__ == "__main__":
    compete_by_files({False: FULL, True: QUICK})
