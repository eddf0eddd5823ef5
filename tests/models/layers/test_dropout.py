import numpy as np
import pytest
import tensorflow as tf

from models.layers.dropout import Dropout

NUM_UNITS = 200_003  # a prime: the last draw's bytes are not all used


def check_share_and_scale(layer_class, rate):
    """Holds kept units to one factor that keeps the mean, and the share to the rate."""
    tf.random.set_seed(3)
    inputs = np.random.default_rng(0).uniform(1, 2, NUM_UNITS).astype(np.float32)
    outputs = layer_class(rate)(tf.constant(inputs), training=True).numpy()
    kept = outputs != 0
    factors = outputs[kept] / inputs[kept]
    np.testing.assert_allclose(factors, factors[0], rtol=1e-5)
    share = kept.mean()
    error = 5 * np.sqrt(share * (1 - share) / NUM_UNITS)
    assert abs(share - (1 - rate)) < error + 0.5 / 256
    assert abs(share * factors[0] - 1) < error * factors[0]
    # Units fall apart from their neighbours, at every distance within a draw.
    deviation = kept - share
    for distance in range(1, 17):
        together = (deviation[distance:] * deviation[:-distance]).mean()
        assert abs(together) < 5 * share * (1 - share) / np.sqrt(NUM_UNITS)


class NotScaled(Dropout):
    def call(self, inputs, training=False):
        return tf.where(super().call(inputs, training) != 0, inputs, 0)


class ScaledByTheRateAsked(Dropout):
    def call(self, inputs, training=False):
        kept = super().call(inputs, training) != 0
        return tf.where(kept, inputs / (1 - self.rate) ** 2, 0)


class OneDrawForEight(Dropout):
    def call(self, inputs, training=False):
        few = super().call(tf.ones([NUM_UNITS // 8 + 1]), training)
        return inputs * tf.repeat(few, 8)[:NUM_UNITS]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_dropout_share_and_scale(rate):
    check_share_and_scale(Dropout, rate)


@pytest.mark.parametrize("wrong", [NotScaled, ScaledByTheRateAsked, OneDrawForEight])
def test_dropout_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_share_and_scale(wrong, 0.3)


def test_dropout_draws_anew_at_each_call_and_repeats_from_a_seed():
    layer = Dropout(0.5)
    call = tf.function(lambda x: layer(x, training=True))
    ones = tf.ones([7, 3, 50])

    def twice():
        tf.random.set_seed(11)
        return call(ones).numpy(), call(ones).numpy()

    first, second = twice()
    assert (first != second).any()
    again = twice()
    np.testing.assert_array_equal(again[0], first)
    np.testing.assert_array_equal(again[1], second)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_dropout_that_drops_nothing_is_the_identity(rate, training):
    inputs = tf.random.normal([4, 5])
    np.testing.assert_array_equal(Dropout(rate)(inputs, training=training), inputs)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_dropout_rejects_a_rate_outside_its_range(rate):
    with pytest.raises(ValueError, match=r"`rate` should be in \[0, 1\)"):
        Dropout(rate)


def test_dropout_of_no_row():
    assert Dropout(0.5)(tf.zeros([0, 8]), training=True).shape == (0, 8)


def test_dropout_keeps_its_inputs_type():
    layer = Dropout(0.5, dtype="bfloat16")
    outputs = layer(tf.ones([64], tf.bfloat16), training=True)
    assert outputs.dtype == tf.bfloat16
    assert set(outputs.numpy().astype(float)) <= {0.0, 2.0}


def test_dropout_reads_its_own_config():
    layer = Dropout(0.25, name="d")
    assert Dropout.from_config(layer.get_config()).get_config() == layer.get_config()
