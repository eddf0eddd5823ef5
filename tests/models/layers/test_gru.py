"""The GRU over a sequence beside a loop over rows and steps, and its own gradient."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers import gru
from models.layers.gru import Gru
from tests.reference_memory import gru_step

DIM, UNITS = 3, 4


def inputs(num_steps=5, batch=2):
    rng = np.random.default_rng(0)
    return tf.constant(rng.normal(size=(num_steps, batch, DIM)), tf.float32)


def randomised(layer_class):
    layer = layer_class(DIM, UNITS)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    return layer


def weights_of(layer):
    return {w.name.split(":")[0].split("/")[-1]: w.numpy() for w in layer.weights}


def slow_states(layer, values):
    """Returns [T + 1, B, H]."""
    weights = weights_of(layer)
    states = [np.zeros([values.shape[1], UNITS])]
    for step in values.numpy():
        rows = zip(step, states[-1], strict=True)
        states.append(np.stack([gru_step(x, h, weights) for x, h in rows]))
    return np.stack(states)


# ---------------------------------------------------------------- values


def check_states(layer_class):
    """The checker."""
    layer = randomised(layer_class)
    values = inputs()
    expected = slow_states(layer, values)
    np.testing.assert_allclose(layer(values), expected, atol=1e-5)
    state = tf.constant(expected[2], tf.float32)
    np.testing.assert_allclose(layer.step(values[2], state), expected[3], atol=1e-5)


class ResetsAfter(Gru):
    """Keras's `reset_after`: the reset on the product instead of on the state."""

    def call(self, inputs):
        states = [tf.zeros([inputs.shape[1], UNITS])]
        for step in inputs:
            projected = self._projected(step)
            both = projected[:, : 2 * UNITS] + states[-1] @ self.recurrent_gates
            reset, keep = tf.split(tf.sigmoid(both), 2, axis=1)
            held = reset * (states[-1] @ self.recurrent_candidate)
            new = tf.tanh(projected[:, 2 * UNITS :] + held)
            states.append(keep * states[-1] + (1 - keep) * new)
        return tf.stack(states)


class SwapsTheGates(Gru):
    def call(self, inputs):
        states = [tf.zeros([inputs.shape[1], UNITS])]
        for step in inputs:
            projected = self._projected(step)
            _, keep, new = gru._gates(
                *(projected, states[-1]),
                *(self.recurrent_gates, self.recurrent_candidate),
            )
            states.append((1 - keep) * states[-1] + keep * new)
        return tf.stack(states)


class LeavesOutTheBias(Gru):
    def _projected(self, inputs):
        return super()._projected(inputs) - tf.concat(
            [self.gate_bias, self.candidate_bias], axis=0
        )


def test_states_equal_the_loop():
    check_states(Gru)


@pytest.mark.parametrize("wrong", [ResetsAfter, SwapsTheGates, LeavesOutTheBias])
def test_states_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_states(wrong)


# ---------------------------------------------------------------- the gradient


def gradients(layer, states_of, values):
    """Returns those of the inputs and of each weight, for some mix of the states."""
    mix = np.random.default_rng(2).normal(
        size=(values.shape[0] + 1, values.shape[1], UNITS)
    )
    with tf.GradientTape() as tape:
        tape.watch(values)
        loss = tf.reduce_sum(states_of(values) * tf.constant(mix, tf.float32))
    wanted = [values, *layer.trainable_variables]
    return tape.gradient(loss, wanted, unconnected_gradients="zero")


def check_gradients(layer_class):
    """The checker: TensorFlow's own gradient of the steps one by one."""
    layer = randomised(layer_class)

    def by_steps(values):
        states = [tf.zeros([values.shape[1], UNITS])]
        for step in values:
            states.append(layer.step(step, states[-1]))
        return tf.stack(states)

    for num_steps in (1, 2, 5):
        values = inputs(num_steps)
        expected = gradients(layer, by_steps, values)
        found = gradients(layer, layer, values)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


class SeesOneStepBack(Gru):
    """Truncated: what came before the last step gets no gradient."""

    def call(self, inputs):
        states = super().call(inputs)
        return tf.concat([tf.stop_gradient(states[:-1]), states[-1:]], axis=0)


class HalvesTheGradient(Gru):
    def call(self, inputs):
        states = super().call(inputs)
        return 0.5 * states + tf.stop_gradient(0.5 * states)


def test_gradients_equal_those_of_single_steps():
    check_gradients(Gru)


@pytest.mark.parametrize("wrong", [SeesOneStepBack, HalvesTheGradient])
def test_gradients_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_gradients(wrong)


@pytest.mark.parametrize(("num_steps", "batch"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_read_gives_the_first_state(num_steps, batch):
    layer = randomised(Gru)
    values = tf.zeros([num_steps, batch, DIM])

    @tf.function(input_signature=[tf.TensorSpec([None, None, DIM])])
    def states_of(values):
        return layer(values)

    assert layer(values).shape == (num_steps + 1, batch, UNITS)
    assert not np.any(states_of(values)[0])
    for gradient in gradients(layer, states_of, values):
        assert not np.any(gradient)


# ---------------------------------------------------------------- settings


def test_biases_of_the_gates_start_at_one():
    weights = weights_of(Gru(DIM, UNITS))
    np.testing.assert_array_equal(weights["gate_bias"], np.ones(2 * UNITS))
    np.testing.assert_array_equal(weights["candidate_bias"], np.zeros(UNITS))


@pytest.mark.parametrize("name", ["input_dim", "units"])
def test_bad_size_is_named(name):
    sizes = {"input_dim": DIM, "units": UNITS, name: 0}
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}=0"):
        Gru(**sizes)


def test_gru_from_its_config_gives_the_same():
    layer = randomised(Gru)
    again = Gru.from_config(layer.get_config())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(inputs()), layer(inputs()))
