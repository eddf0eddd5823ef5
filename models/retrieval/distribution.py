"""On which devices the towers train."""

import tensorflow as tf

from models.retrieval.settings import Replicas


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
    return tf.distribute.MirroredStrategy([device.name for device in devices])
