"""The two towers of TensorFlow Recommenders' own tutorial, with its own settings.

A tower of the user's id, a tower of the film's title; no history, no features, no
correction of the sampling. Nothing is tuned: this is what a user gets who follows it.

Run as `python -m benchmarks.peers.retrieval_tfrs_tutorial CONTEST OUTCOME [--quick]`.

References:
    [1] tensorflow.org/recommenders/examples/basic_retrieval
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

from benchmarks.retrieval_contest import Setting, compete
from benchmarks.retrieval_data import Contest, Task
from models.retrieval.evaluation import Scorer

EMBEDDING_DIM = 32
LEARNING_RATE = 0.1
BATCH_SIZE = 8192
EPOCHS = 3


class MovielensModel(tfrs.Model):
    """The tutorial's model; its metric, which only watches, is left out."""

    def __init__(self, user_ids: np.ndarray, titles: np.ndarray) -> None:
        super().__init__()
        self.user_model = _tower(user_ids)
        self.movie_model = _tower(titles)
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, features, training: bool = False) -> tf.Tensor:
        return self.task(
            self.user_model(features["user_id"]),
            self.movie_model(features["movie_title"]),
        )


def _tower(vocabulary: np.ndarray) -> tf.keras.Model:
    return tf.keras.Sequential(
        [
            tf.keras.layers.StringLookup(vocabulary=vocabulary, mask_token=None),
            tf.keras.layers.Embedding(len(vocabulary) + 1, EMBEDDING_DIM),
        ]
    )


class Tutorial:
    """Follows the tutorial.

    Args:
        titles: [items] str; films that share one are one to the tutorial.
    """

    def __init__(self, titles: np.ndarray):
        self._titles = titles

    def candidates(self, task: Task) -> Iterator[tuple[Setting, Scorer]]:
        setting = {
            "embedding_dim": EMBEDDING_DIM,
            "learning_rate": LEARNING_RATE,
            "batch_size": BATCH_SIZE,
            "epochs": EPOCHS,
        }
        yield setting, self.learn(task, setting)

    def learn(self, task: Task, setting: Setting) -> Scorer:
        tf.keras.utils.set_random_seed(42)
        train = task.train
        user_ids = train.users.astype(str)
        model = MovielensModel(np.unique(user_ids), np.unique(self._titles))
        model.compile(tf.keras.optimizers.Adagrad(LEARNING_RATE))
        rows = tf.data.Dataset.from_tensor_slices(
            {"user_id": user_ids, "movie_title": self._titles[train.items]}
        )
        batches = rows.shuffle(len(user_ids)).batch(BATCH_SIZE).cache()
        model.fit(batches, epochs=EPOCHS, verbose=0)
        items = model.movie_model(self._titles).numpy()
        users = model.user_model(task.log.users[task.rows].astype(str)).numpy()
        return lambda places: users[places] @ items.T


if __name__ == "__main__":
    contest = Contest.load(Path(sys.argv[1]))
    compete(Tutorial(contest.titles), contest).save(Path(sys.argv[2]))
