"""A ranker in training: what the log's labels depend on beside the ranker's logits."""

import math

import tensorflow as tf

from models.ranking.labelled_rows import NO_POSITION
from models.ranking.ranker import Ranker, Tensors
from models.ranking.settings import RankingSettings
from schemas.features import POSITION


class Trainee(tf.keras.Model):
    """Wraps a ranker for training; in all else it is the ranker.

    training logits = ranker + position's bias + log(positive weight)
    loss            = mean of -(w y log p + (1 - y) log(1 - p)),  w the positive weight

    A weight of w multiplies the odds that fit the labels best by w. As the logits in
    training have that factor already, the ranker's own stay calibrated.

    Args:
        ranker: what is trained, and served without this.
        settings: of the training.
    """

    def __init__(self, ranker: Ranker, settings: RankingSettings) -> None:
        super().__init__(name="trainee")
        self.ranker = ranker
        self._positive_weight = settings.positive_weight
        self.position_bias = None
        if settings.position_bias:
            self.position_bias = PositionBias(settings.position_buckets)

    def call(self, features: Tensors, training: bool = False) -> tf.Tensor:
        """Returns logits [B], float32; position and weight count in training only."""
        logits = self.ranker(features, training=training)
        if not training:
            return logits
        if self.position_bias is not None:
            logits += self.position_bias(features[POSITION])
        return logits + math.log(self._positive_weight)

    def loss_of(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each row, of training logits."""
        return tf.nn.weighted_cross_entropy_with_logits(
            targets, logits, self._positive_weight
        )


class PositionBias(tf.keras.layers.Layer):
    """How much a position adds to the logit, next to the batch's average.

    bias[b] = a[bucket of position b] - mean of the same over the batch's known positions

    Users see the first places more. What the place explains, the item need not, and
    where the place is not known, or left out as at serving, an average one is assumed.

    Args:
        num_buckets: positions with a number of their own; later ones share the last.
    """

    def __init__(self, num_buckets: int, **kwargs) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.num_buckets = num_buckets
        self.biases = self.add_weight(
            name="biases", shape=(num_buckets,), initializer="zeros"
        )

    def call(self, positions: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B] for int64 [B]; 0 for `NO_POSITION`."""
        is_known = tf.cast(positions != NO_POSITION, tf.float32)
        bucket = tf.clip_by_value(positions, 0, self.num_buckets - 1)
        biases = tf.gather(self.biases, bucket) * is_known
        mean = tf.math.divide_no_nan(tf.reduce_sum(biases), tf.reduce_sum(is_known))
        return biases - mean * is_known
