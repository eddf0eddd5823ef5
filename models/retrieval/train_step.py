"""One step of the optimiser: on a batch, or on several micro-batches of it."""

import tensorflow as tf

from models.losses.accumulation import mean_gradients
from models.losses.replicas import count_rows
from models.retrieval.batch_loss import batch_loss
from models.training_input import Batch
from schemas.features import REWARD


def train_step(towers, batch: Batch, num_micro_batches: int = 1) -> dict:
    """Updates the towers by one batch.

    A micro-batch is a batch to the loss and to the frequency estimator: its negatives
    are its own, and it is one step. The gradients are averaged, so that every row of the
    batch counts alike where micro-batches differ in size.

    Args:
        towers: a compiled `TwoTower`.
        batch: this replica's rows.
        num_micro_batches: k; row i is in micro-batch i mod k, so that two replicas with
            half the rows each make the same micro-batches as one with all.

    Returns:
        {"loss": the mean of the micro-batches' losses}; with several replicas the
        share of this one's rows in it.
    """
    variables = towers.trainable_variables
    num_rows = tf.cast(count_rows(batch[1][REWARD]), tf.float32) / num_micro_batches
    losses, gradients = [], []
    for place in range(num_micro_batches):
        # One after the other, or each would have its [B, C] logits in memory at a time.
        with tf.control_dependencies(losses[-1:] + _dense(gradients[-1:])):
            micro_batch = tf.nest.map_structure(
                lambda rows, place=place: rows[place::num_micro_batches], batch
            )
            with tf.GradientTape() as tape:
                loss = batch_loss(towers, micro_batch, True, num_rows)
        losses.append(loss)
        gradients.append(tape.gradient(loss, variables))
    mean = mean_gradients(gradients) if num_micro_batches > 1 else gradients[0]
    towers.optimizer.apply_gradients(zip(mean, variables, strict=True))
    return {"loss": tf.add_n(losses) / num_micro_batches}


def _dense(gradients: list) -> list[tf.Tensor]:
    return [
        gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient
        for of_one in gradients
        for gradient in of_one
        if gradient is not None
    ]
