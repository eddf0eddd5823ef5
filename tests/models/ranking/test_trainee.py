import math

import numpy as np
import pytest
import tensorflow as tf

from models.ranking.ranker import Ranker
from models.ranking.settings import RankingSettings
from models.ranking.trainee import PositionBias, Trainee
from tests.models import training_world

SPACE = training_world.Transform().space
POSITIONS = tf.constant([0, 3, -1, 9, 1], tf.int64)
BIASES = [2.0, -1.0, 0.5, 4.0]


class Constant(Ranker):
    """One learned logit for all rows."""

    def __init__(self):
        super().__init__(SPACE)
        self.logit = self.add_weight("logit", ())

    def read_query(self, features, training):
        return features["user_id_xf"]

    def logits(self, query, candidates, training):
        return self.logit + 0.0 * tf.cast(candidates["item_id_xf"], tf.float32)


def features(num_rows):
    zeros = tf.zeros([num_rows], tf.int64)
    return {
        **{name: zeros for name in ("user_id_xf", "item_id_xf")},
        "history_item_ids_xf": zeros[:, tf.newaxis],
        "item_genres_xf": zeros[:, tf.newaxis],
        "item_price_xf": tf.zeros([num_rows]),
    }


def check_position_bias(layer_class):
    """By hand: buckets 0, 3, none, 3 and 1 have 2, 4, nothing, 4, -1; the mean is 9/4."""
    layer = layer_class(4)
    layer.biases.assign(BIASES)
    expected = [2 - 2.25, 4 - 2.25, 0, 4 - 2.25, -1 - 2.25]
    np.testing.assert_allclose(layer(POSITIONS), expected)
    # A row whose position is not known, or a batch of them, is where it was.
    np.testing.assert_array_equal(layer(tf.constant([-1, -1], tf.int64)), [0, 0])


class NotCentred(PositionBias):
    def call(self, positions):
        is_known = tf.cast(positions != -1, tf.float32)
        return tf.gather(self.biases, tf.clip_by_value(positions, 0, 3)) * is_known


class CountsTheUnknown(PositionBias):
    def call(self, positions):
        biases = NotCentred.call(self, positions)
        return (biases - tf.reduce_mean(biases)) * tf.cast(positions != -1, tf.float32)


class UnknownIsTheFirst(PositionBias):
    def call(self, positions):
        return super().call(tf.maximum(positions, 0))


def test_position_bias_value():
    check_position_bias(PositionBias)


@pytest.mark.parametrize("wrong", [NotCentred, CountsTheUnknown, UnknownIsTheFirst])
def test_position_bias_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_position_bias(wrong)


def test_position_counts_in_training_only():
    trainee = Trainee(Constant(), RankingSettings(position_bias=True))
    trainee.position_bias.biases.assign_add(np.arange(64.0))
    rows = features(5) | {"position": POSITIONS}
    served = trainee(rows)
    np.testing.assert_array_equal(served, np.full(5, trainee.ranker.logit))
    known = [0, 3, 9, 1]
    moved = (trainee(rows, training=True) - served).numpy()
    np.testing.assert_allclose(
        moved[[0, 1, 3, 4]], np.array(known) - np.mean(known), rtol=1e-5
    )
    assert moved[2] == 0


def check_calibration(trainee_class):
    """A weight of 5 on a fifth of positives leaves the prediction at a fifth."""
    settings = RankingSettings(positive_weight=5.0)
    trainee = trainee_class(Constant(), settings)
    rows, labels = features(10), tf.constant([1.0, 0, 0, 0, 0] * 2)
    optimizer = tf.keras.optimizers.SGD(1.0)
    for _ in range(200):
        with tf.GradientTape() as tape:
            losses = trainee.loss_of(labels, trainee(rows, training=True))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, trainee.trainable_variables)
        optimizer.apply_gradients(
            zip(gradients, trainee.trainable_variables, strict=True)
        )
    np.testing.assert_allclose(tf.sigmoid(trainee(rows)), np.full(10, 0.2), rtol=1e-4)
    # The loss itself: at even odds, 5 log 2 of a positive and log 2 of a negative.
    trainee.ranker.logit.assign(-math.log(5.0))
    losses = trainee.loss_of(labels, trainee(rows, training=True))
    expected = np.where(labels > 0, 5.0, 1.0) * math.log(2.0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


class LeavesTheWeightInTheLogits(Trainee):
    def call(self, features, training=False):
        return self.ranker(features)


class DoesNotWeigh(Trainee):
    def loss_of(self, targets, logits):
        return tf.nn.sigmoid_cross_entropy_with_logits(targets, logits)


class WeighsNegatives(Trainee):
    def loss_of(self, targets, logits):
        return super().loss_of(1 - targets, -logits)


def test_positive_weight_leaves_predictions_calibrated():
    check_calibration(Trainee)


@pytest.mark.parametrize(
    "wrong", [LeavesTheWeightInTheLogits, DoesNotWeigh, WeighsNegatives]
)
def test_calibration_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_calibration(wrong)
