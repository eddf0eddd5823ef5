import numpy as np
import pytest
import tensorflow as tf

from models.layers.recurrent import Lstm, left_aligned, state_after
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import DIM, IDS, IS_EVENT, vectors

UNITS = 2

# left_aligned and state_after


def check_left_aligned(align):
    expected = [[7, 3, 9, 0, 0], [4, 4, 5, 0, 0], [0] * 5, [1, 2, 3, 4, 5]]
    np.testing.assert_array_equal(align(tf.constant(IDS)), expected)


WRONG_ALIGNMENTS = {
    "rotated": lambda ids: tf.roll(ids, -2, axis=1),
    "sorted": lambda ids: tf.sort(ids, axis=1, direction="DESCENDING"),
    "newest first": lambda ids: left_aligned(tf.reverse(ids, [1])),
    "distinct": lambda ids: tf.where(ids == 4, 0, left_aligned(ids)),
}


def test_left_aligned_moves_events_in_their_order():
    check_left_aligned(left_aligned)


@pytest.mark.parametrize("wrong", WRONG_ALIGNMENTS.values(), ids=WRONG_ALIGNMENTS)
def test_left_aligned_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_left_aligned(wrong)


def test_left_aligned_takes_histories_of_no_column():
    assert left_aligned(tf.zeros([3, 0], tf.int64)).shape == (3, 0)


def check_state_after(read):
    states = np.arange(24.0).reshape(4, 3, 2)  # T + 1 = 4, B = 3
    found = read(tf.constant(states), tf.constant([0, 3, 1], tf.int64))
    np.testing.assert_array_equal(found, [[0, 1], [20, 21], [10, 11]])


def test_state_after_is_the_one_of_the_last_event():
    check_state_after(state_after)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda states, n: states[-1],
        lambda states, n: state_after(states, n - 1),
        lambda states, n: state_after(tf.transpose(states, [1, 0, 2]), n)[:3],
    ],
    ids=["last column", "before the last event", "rows for steps"],
)
def test_state_after_checker_rejects(wrong):
    with pytest.raises((AssertionError, tf.errors.InvalidArgumentError)):
        check_state_after(wrong)


# Lstm


def _inputs():
    return tf.constant(vectors()), tf.constant(IS_EVENT)


def _gates(layer):
    parts = [
        np.split(weight.numpy().astype(float), 4, axis=-1)
        for weight in (layer.kernel, layer.recurrent_kernel, layer.bias)
    ]
    names = ("write", "keep", "show", "new")
    return dict(zip(names, zip(*parts, strict=True), strict=True))


def check_lstm(layer_class):
    layer = sequences.randomised(layer_class(UNITS), *_inputs())
    gates = _gates(layer)
    expected = [
        reference.lstm_state(sequences.events_of(row), gates) for row in range(len(IDS))
    ]
    np.testing.assert_allclose(layer(*_inputs()), expected, rtol=1e-4, atol=1e-5)


class LstmSeesPadding(Lstm):
    def call(self, vectors, is_event):
        return super().call(vectors, tf.ones_like(is_event))


class LstmNewestFirst(Lstm):
    def call(self, vectors, is_event):
        return super().call(tf.reverse(vectors, [1]), tf.reverse(is_event, [1]))


class LstmShowsTwice(Lstm):
    """Returns (h, h) for (c, h)."""

    def call(self, vectors, is_event):
        hidden = super().call(vectors, is_event)[:, self.units :]
        return tf.concat([hidden, hidden], axis=-1)


def test_lstm():
    check_lstm(Lstm)


@pytest.mark.parametrize("wrong", [LstmSeesPadding, LstmNewestFirst, LstmShowsTwice])
def test_lstm_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_lstm(wrong)


def test_lstm_ignores_padding():
    sequences.check_padding_is_irrelevant(sequences.randomised(Lstm(UNITS), *_inputs()))


def test_lstm_in_a_graph_equals_eager():
    layer = sequences.randomised(Lstm(UNITS), *_inputs())
    sequences.check_graph_equals_eager(layer, vectors(), IS_EVENT)
    empty = np.zeros((2, 0, DIM), np.float32), np.zeros((2, 0), bool)
    sequences.check_graph_equals_eager(layer, *empty)
    assert not np.any(layer(*map(tf.constant, empty)))


def test_lstm_gradients_reach_every_weight_and_no_padding():
    events = tf.Variable(vectors())
    layer = sequences.randomised(Lstm(UNITS), *_inputs())
    *_, gradient = sequences.check_gradients(
        layer, lambda: layer(events, tf.constant(IS_EVENT)), events
    )
    np.testing.assert_array_equal(np.any(gradient, axis=-1), IS_EVENT)


def test_lstm_forgets_little_at_first():
    layer = Lstm(UNITS)
    layer(*_inputs())
    np.testing.assert_array_equal(layer.bias, [0, 0, 1, 1, 0, 0, 0, 0])


def test_lstm_config_makes_the_same_layer():
    layer = Lstm(UNITS)
    assert Lstm.from_config(layer.get_config()).get_config() == layer.get_config()


def test_lstm_refuses_no_units():
    with pytest.raises(ValueError, match="`units` should be >= 1. Received: units=0"):
        Lstm(0)
