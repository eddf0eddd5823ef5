"""On which devices the towers train."""

import tensorflow as tf

from models.retrieval.settings import Replicas
from schemas.features import REWARD


def make_strategy(replicas: Replicas) -> tf.distribute.Strategy:
    """Returns the strategy under whose scope a model is made and compiled.

    Args:
        replicas: `MIRRORED` has a replica on each GPU of this machine, or, without one,
            on each logical CPU; a batch is split among them, and its negatives are
            those of all of them.
    """
    if replicas is Replicas.NONE:
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy(
        [device.name for device in devices],
        # Collective operations want the same shapes at every step, or fail, and a
        # batch's distinct ids are not always as many.
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def shared_batches(
    batches: tf.data.Dataset, num_rows: int, strategy: tf.distribute.Strategy
) -> tf.data.Dataset:
    """Returns the batches that every replica gets rows of.

    A last batch that is not full leaves replicas without any, and gathering nothing
    ends the process (TensorFlow 2.20, `RingGatherer`). It is left out; where rows are
    shuffled, other ones each time.

    Args:
        batches: as `training_input.transformed_batches` gives them.
        num_rows: of a full batch.
        strategy: of the model that is trained.
    """
    if strategy.num_replicas_in_sync == 1:
        return batches

    def is_full(features: dict, row: dict) -> tf.Tensor:
        return tf.shape(row[REWARD])[0] == num_rows

    return batches.filter(is_full)
