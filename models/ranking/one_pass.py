"""Trains a ranker that learns from each row once, in the order of time.

Each batch is predicted before it is learnt, so the log loss on the way is that of a model
in service which learns as it goes. Nothing stops early: a row more is never a row too
many, so the validation rows, which are the newest, can be learnt too, once the ranker has
been measured on them. Killed, training goes on from the batches that were learnt.
"""

from pathlib import Path

import tensorflow as tf

from models.bandit import bayesian_fm_release
from models.feature_space import FeatureSpace
from models.ranking.labelled_rows import LabelledRows
from models.ranking.ranker import Ranker, Tensors
from models.ranking.registry import make_ranker
from models.ranking.settings import RankingSettings

_BATCHES_A_CHECKPOINT = 200
_BATCHES_A_POINT = 20  # of a curve in TensorBoard
_DRAWINGS = 20  # of the posterior in TensorBoard, in a pass
_DRAWN_BATCHES = 4  # of validation rows, to measure deviations of logits on each time


def learn_in_order(
    space: FeatureSpace,
    settings: RankingSettings,
    train: LabelledRows,
    validation: LabelledRows,
    logs: Path,
    checkpoints: Path | None = None,
    base: Path | None = None,
    learns_validation: bool = False,
) -> Ranker:
    """Trains a ranker and returns it.

    Args:
        space: the transformed features.
        settings: they name a ranker with `learns_in_order`.
        train: what is learnt.
        validation: later rows, what the ranker is measured on.
        logs: receives TensorBoard's files.
        checkpoints: as of `models.ranking.trainer.fit`.
        base: SavedModel to start from the posterior of; None starts from the prior. The
            rows should all be newer than what it has learnt from.
        learns_validation: whether the validation rows are learnt behind the others. The
            ranker cannot be judged on them then.
    """
    tf.keras.utils.set_random_seed(settings.seed)
    ranker = make_ranker(space, settings)
    if base is not None:
        bayesian_fm_release.restore(base, ranker)
    one_pass = _Pass(ranker, train, validation, logs, checkpoints)
    one_pass.learn(train, first=0)
    if one_pass.num_learnt <= train.num_batches:
        one_pass.measure()
    if learns_validation:
        one_pass.learn(validation, first=train.num_batches)
    one_pass.draw()
    return ranker


class _Pass:
    """A pass under way; the arguments are those of `learn_in_order`."""

    def __init__(
        self,
        ranker: Ranker,
        train: LabelledRows,
        validation: LabelledRows,
        logs: Path,
        checkpoints: Path | None,
    ) -> None:
        self._ranker = ranker
        self._validation = validation.in_order()
        for rows in (train.in_order(), self._validation):
            for features, _ in rows.take(1):
                ranker(features)  # makes every variable
        num_batches = train.num_batches + validation.num_batches
        self._batches_a_drawing = max(1, num_batches // _DRAWINGS)
        self._writers = {
            name: tf.summary.create_file_writer(str(logs / name))
            for name in ("train", "validation")
        }
        self._loss = tf.keras.metrics.Mean()
        spec = self._validation.element_spec
        self._learn = tf.function(self._learn_batch, input_signature=spec)
        self._explanations = {
            name: tf.function(explain, input_signature=spec[:1])
            for name, explain in ranker.explanations().items()
        }
        self._num_learnt = tf.Variable(0, dtype=tf.int64, name="num_learnt")
        self._drawn_at: int | None = None
        self._manager = None
        if checkpoints is not None:
            self._manager = self._resumed(checkpoints)

    def _resumed(self, folder: Path) -> tf.train.CheckpointManager:
        checkpoint = tf.train.Checkpoint(
            weights=self._ranker.weights, learnt=self._num_learnt
        )
        manager = tf.train.CheckpointManager(checkpoint, str(folder), 1)
        if manager.latest_checkpoint:
            status = checkpoint.restore(manager.latest_checkpoint)
            status.assert_existing_objects_matched()
        return manager

    @property
    def num_learnt(self) -> int:
        """Batches that were learnt so far, by this process or one that was killed."""
        return int(self._num_learnt)

    def learn(self, rows: LabelledRows, first: int) -> None:
        """Learns the batches of the rows, of which the first one has the given number."""
        for features, targets in rows.by_time().skip(max(0, self.num_learnt - first)):
            self._learn(features, targets)
            number = int(self._num_learnt.assign_add(1))
            if number % _BATCHES_A_POINT == 0:
                with self._writers["train"].as_default(number):
                    tf.summary.scalar("log_loss_before_learning", self._loss.result())
                self._loss.reset_state()
            if number % self._batches_a_drawing == 0:
                self.draw()
            if self._manager is not None and number % _BATCHES_A_CHECKPOINT == 0:
                self._manager.save()
        if self._manager is not None:
            self._manager.save()

    def _learn_batch(self, features: Tensors, targets: tf.Tensor) -> None:
        self._loss.update_state(_losses(self._ranker(features), targets))
        self._ranker.learn(features, targets)

    def draw(self) -> None:
        """Draws what the ranker believes by now, and how sure it is of validation rows."""
        if self._drawn_at == self.num_learnt:
            return
        self._drawn_at = self.num_learnt
        with self._writers["train"].as_default(self.num_learnt):
            for name, values in self._ranker.distributions().items():
                if values.shape.rank:
                    tf.summary.histogram(name, values)
                else:
                    tf.summary.scalar(name, values)
        sample = self._validation.take(_DRAWN_BATCHES)
        deviations = tf.keras.metrics.Mean()
        for features, _ in sample if "posterior" in self._explanations else ():
            explained = self._explanations["posterior"](features)
            deviations.update_state(explained["deviations"])
        if float(deviations.count):
            with self._writers["validation"].as_default(self.num_learnt):
                tf.summary.scalar("posterior/logit_deviation", deviations.result())

    def measure(self) -> None:
        """Measures the ranker on the validation rows."""
        loss = tf.keras.metrics.Mean()
        auc = tf.keras.metrics.AUC(from_logits=True)

        @tf.function(input_signature=self._validation.element_spec)
        def measure(features: Tensors, targets: tf.Tensor) -> None:
            logits = self._ranker(features)
            loss.update_state(_losses(logits, targets))
            auc.update_state(targets >= 0.5, logits)

        for features, targets in self._validation:
            measure(features, targets)
        if not float(loss.count):
            return
        with self._writers["validation"].as_default(self.num_learnt):
            tf.summary.scalar("log_loss", loss.result())
            tf.summary.scalar("auc", auc.result())


def _losses(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    targets = tf.cast(targets, logits.dtype)
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
