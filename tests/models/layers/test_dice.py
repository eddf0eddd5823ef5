import numpy as np
import pytest
import tensorflow as tf

from models.layers.dice import Dice
from tests import reference_sequence as reference

ROWS = (3.0 * np.random.default_rng(0).normal(size=(64, 3)) + 2.0).astype(np.float32)
ALPHA = np.array([0.0, 0.3, -1.0], np.float32)


def _made(layer_class=Dice, **options):
    layer = layer_class(**options)
    layer(tf.constant(ROWS))
    layer.alpha.assign(ALPHA)
    return layer


def check_dice_in_training(layer_class):
    """Mean and variance are the batch's."""
    expected = reference.dice(ROWS, ROWS.mean(0), ROWS.var(0), ALPHA)
    found = _made(layer_class)(tf.constant(ROWS), training=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def check_dice_at_serving(layer_class):
    """Mean and variance are the moving averages, of any rows."""
    layer = _made(layer_class, momentum=0.5)
    for _ in range(2):
        layer(tf.constant(ROWS), training=True)
    mean, variance = 0.75 * ROWS.mean(0), 0.25 + 0.75 * ROWS.var(0)
    for rows in (ROWS[:1], ROWS[:8]):
        expected = reference.dice(rows, mean, variance, ALPHA)
        found = layer(tf.constant(rows), training=False)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class BendsAtZero(Dice):
    """A PReLU's smooth cousin, not adapted to the data."""

    def call(self, inputs, training=False):
        share = tf.sigmoid(inputs) + 0 * super().call(inputs, training)
        return share * inputs + (1 - share) * self.alpha * inputs


class BatchAtServing(Dice):
    """The published mistake: a row's score depends on its neighbours."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=True)


class NeverNormalised(Dice):
    """The other one: moving averages that stay at 0 and 1, in training too."""

    def call(self, inputs, training=False):
        return super().call(inputs, training=False)


class NoLeak(Dice):
    def call(self, inputs, training=False):
        return super().call(inputs, training) - self.alpha * inputs


@pytest.mark.parametrize("check", [check_dice_in_training, check_dice_at_serving])
def test_dice(check):
    check(Dice)


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (check_dice_in_training, BendsAtZero),
        (check_dice_in_training, NeverNormalised),
        (check_dice_in_training, NoLeak),
        (check_dice_at_serving, BatchAtServing),
        (check_dice_at_serving, NeverNormalised),
        (check_dice_at_serving, BendsAtZero),
    ],
)
def test_dice_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_dice_takes_candidates():
    """[B, C, D] as its rows one by one."""
    layer = _made()
    layer(tf.constant(ROWS), training=True)
    found = layer(tf.constant(ROWS.reshape(16, 4, 3)))
    expected = tf.reshape(layer(tf.constant(ROWS)), [16, 4, 3])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_dice_config_makes_the_same_layer():
    layer = _made(momentum=0.7)
    second = Dice.from_config(layer.get_config())
    assert second.get_config() == layer.get_config()
