import numpy as np
import pytest
import tensorflow as tf

from models.layers.conv_sequence import ConvSequence, newest_ids
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import DIM, IDS, vectors

EVENTS = 4  # L of the windows

# newest_ids


def check_newest_ids(newest):
    expected = {
        3: [[7, 3, 9], [4, 4, 5], [0, 0, 0], [3, 4, 5]],
        7: [[0] * 4 + [7, 3, 9], [0] * 4 + [4, 4, 5], [0] * 7, [0, 0, 1, 2, 3, 4, 5]],
    }
    for count, ids in expected.items():
        np.testing.assert_array_equal(newest(tf.constant(IDS), count), ids)


WRONG_NEWEST = {
    "last columns": lambda ids, n: tf.pad(ids, [[0, 0], [n, 0]])[:, -n:],
    "oldest": lambda ids, n: tf.reverse(newest_ids(tf.reverse(ids, [1]), n), axis=[1]),
    "largest": lambda ids, n: tf.sort(tf.pad(ids, [[0, 0], [n, 0]]), axis=1)[:, -n:],
    "newest first": lambda ids, n: tf.reverse(newest_ids(ids, n), axis=[1]),
}


def test_newest_ids():
    check_newest_ids(newest_ids)


@pytest.mark.parametrize("wrong", WRONG_NEWEST.values(), ids=WRONG_NEWEST)
def test_newest_ids_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_newest_ids(wrong)


def test_newest_ids_takes_histories_of_no_column():
    found = newest_ids(tf.zeros([3, 0], tf.int64), 2)
    np.testing.assert_array_equal(found, np.zeros((3, 2)))


# ConvSequence


def _window():
    window = vectors(3, EVENTS)
    window[1, :2] = 0.0  # two events
    window[2] = 0.0
    return tf.constant(window)


def _made(layer_class=ConvSequence):
    return sequences.randomised(layer_class(2, 3), _window())


def check_conv_sequence(layer_class):
    layer = _made(layer_class)
    horizontal = {
        height: (kernel.numpy(), bias.numpy())
        for height, (kernel, bias) in enumerate(layer.horizontal, start=1)
    }
    assert list(horizontal) == [1, 2, 3, 4]
    expected = [
        reference.caser_features(window, horizontal, layer.vertical.numpy())
        for window in _window().numpy().astype(float)
    ]
    np.testing.assert_allclose(layer(_window()), expected, rtol=1e-4, atol=1e-5)


class NewestFirst(ConvSequence):
    def call(self, window):
        return super().call(tf.reverse(window, [1]))


class MeanOverTime(ConvSequence):
    def call(self, window):
        features = super().call(window)
        size = window.shape[-1] * self.vertical_filters
        means = [
            tf.reduce_mean(
                tf.nn.relu(tf.nn.conv1d(window, kernel, 1, "VALID") + bias), axis=1
            )
            for kernel, bias in self.horizontal
        ]
        return tf.concat([features[:, :size], *means], axis=-1)


class PaddedWindows(ConvSequence):
    """A filter sees windows that stand out of the image."""

    def call(self, window):
        features = super().call(window)
        size = window.shape[-1] * self.vertical_filters
        found = [
            tf.reduce_max(
                tf.nn.relu(tf.nn.conv1d(window, kernel, 1, "SAME") + bias), axis=1
            )
            for kernel, bias in self.horizontal
        ]
        return tf.concat([features[:, :size], *found], axis=-1)


class VerticalRelu(ConvSequence):
    def call(self, window):
        return tf.nn.relu(super().call(window))


def test_conv_sequence():
    check_conv_sequence(ConvSequence)


@pytest.mark.parametrize(
    "wrong", [NewestFirst, MeanOverTime, PaddedWindows, VerticalRelu]
)
def test_conv_sequence_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_conv_sequence(wrong)


def test_conv_sequence_gradients_reach_every_weight():
    layer = _made()
    sequences.check_gradients(layer, lambda: layer(_window()))


def test_conv_sequence_in_a_graph_equals_eager():
    layer = _made()
    graph = tf.function(layer, input_signature=[tf.TensorSpec([None, EVENTS, DIM])])
    np.testing.assert_allclose(graph(_window()), layer(_window()), rtol=1e-5)


def test_conv_sequence_config_makes_the_same_layer():
    layer = _made()
    second = ConvSequence.from_config(layer.get_config())
    second(_window())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(_window()), layer(_window()))


@pytest.mark.parametrize("name", ["horizontal_filters", "vertical_filters"])
def test_conv_sequence_refuses_no_filters(name):
    with pytest.raises(ValueError, match=f"`{name}` should be >= 1. Received"):
        ConvSequence(**{name: 0})
