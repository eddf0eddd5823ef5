"""Trains a ranker that learns from each row once, in the order of time.

Each batch is predicted before it is learnt, so the log loss on the way is that of a model
in service which learns as it goes. Nothing stops early: a row more is never a row too
many. Killed, training goes on from the batches that were learnt.
"""

from pathlib import Path

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.ranking.labelled_rows import LabelledRows
from models.ranking.ranker import Ranker, Tensors
from models.ranking.registry import make_ranker
from models.ranking.settings import RankingSettings

_BATCHES_A_CHECKPOINT = 200
_BATCHES_A_POINT = 20  # of a curve in TensorBoard


def learn_in_order(
    space: FeatureSpace,
    settings: RankingSettings,
    train: LabelledRows,
    validation: LabelledRows,
    logs: Path,
    checkpoints: Path | None = None,
) -> Ranker:
    """Trains a fresh ranker and returns it.

    Args:
        space: the transformed features.
        settings: they name a ranker with `learns_in_order`.
        train: what is learnt.
        validation: what the ranker is measured on at the end.
        logs: receives TensorBoard's files.
        checkpoints: as of `models.ranking.trainer.fit`.
    """
    tf.keras.utils.set_random_seed(settings.seed)
    ranker = make_ranker(space, settings)
    ranker(next(iter(train.in_order()))[0])  # makes every variable
    num_learnt = tf.Variable(0, dtype=tf.int64, name="num_learnt")
    manager = None
    if checkpoints is not None:
        checkpoint = tf.train.Checkpoint(weights=ranker.weights, learnt=num_learnt)
        manager = tf.train.CheckpointManager(checkpoint, str(checkpoints), 1)
        if manager.latest_checkpoint:
            status = checkpoint.restore(manager.latest_checkpoint)
            status.assert_existing_objects_matched()
    mean_loss = tf.keras.metrics.Mean()

    batches = train.by_time()

    @tf.function(input_signature=batches.element_spec)
    def learn(features: Tensors, targets: tf.Tensor) -> None:
        mean_loss.update_state(_losses(ranker(features), targets))
        ranker.learn(features, targets)

    writer = tf.summary.create_file_writer(str(logs / "train"))
    with writer.as_default():
        for features, targets in batches.skip(int(num_learnt)):
            learn(features, targets)
            number = int(num_learnt.assign_add(1))
            if number % _BATCHES_A_POINT == 0:
                tf.summary.scalar(
                    "log_loss_before_learning", mean_loss.result(), number
                )
                mean_loss.reset_state()
            if manager is not None and number % _BATCHES_A_CHECKPOINT == 0:
                manager.save()
        if manager is not None:
            manager.save()
        for name, values in ranker.distributions().items():
            tf.summary.histogram(name, values, int(num_learnt))
    _measure(ranker, validation, logs / "validation", int(num_learnt))
    return ranker


def _measure(
    ranker: Ranker, validation: LabelledRows, logs: Path, num_learnt: int
) -> None:
    loss = tf.keras.metrics.Mean()
    auc = tf.keras.metrics.AUC(from_logits=True)
    batches = validation.in_order()

    @tf.function(input_signature=batches.element_spec)
    def measure(features: Tensors, targets: tf.Tensor) -> None:
        logits = ranker(features)
        loss.update_state(_losses(logits, targets))
        auc.update_state(targets >= 0.5, logits)

    for features, targets in batches:
        measure(features, targets)
    with tf.summary.create_file_writer(str(logs)).as_default():
        tf.summary.scalar("log_loss", loss.result(), num_learnt)
        tf.summary.scalar("auc", auc.result(), num_learnt)


def _losses(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    targets = tf.cast(targets, logits.dtype)
    return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)
