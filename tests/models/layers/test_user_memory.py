import numpy as np
import pytest
import tensorflow as tf

from models.layers.user_memory import FeatureMemory, read_items
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import DIM, IDS, IS_EVENT, vectors

SLOTS, CANDIDATES = 2, 3


def _queries():
    return tf.constant(vectors(len(IDS), CANDIDATES, seed=8))


def _inputs():
    return tf.constant(vectors()), tf.constant(IS_EVENT)


# read_items


def check_read_items(read):
    expected = np.zeros((len(IDS), CANDIDATES, DIM))
    for row, candidate in np.ndindex(expected.shape[:2]):
        expected[row, candidate] = reference.rum_items(
            _queries().numpy()[row, candidate].astype(float),
            sequences.events_of(row),
            num_slots=5,
        )
    np.testing.assert_allclose(
        read(_queries(), *_inputs()), expected, rtol=1e-4, atol=1e-5
    )


WRONG_READS = {
    "padding is a slot": lambda q, m, e: read_items(q, m, tf.ones_like(e)),
    "the mean": lambda q, m, e: read_items(0 * q, m, e),
    "one query for all": lambda q, m, e: read_items(tf.repeat(q[:, :1], 3, 1), m, e),
    "scaled": lambda q, m, e: read_items(q / DIM**0.5, m, e),
}


def test_read_items():
    check_read_items(read_items)


@pytest.mark.parametrize("wrong", WRONG_READS.values(), ids=WRONG_READS)
def test_read_items_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_read_items(wrong)


# FeatureMemory


def _made(layer_class=FeatureMemory):
    layer = sequences.randomised(layer_class(SLOTS), *_inputs())
    layer.erase.kernel.assign(3.0 * layer.erase.kernel)
    return layer


def _weights(layer):
    """Returns keys, and (kernel, bias) of erase and add."""
    pairs = [
        (part.kernel.numpy().astype(float), part.bias.numpy())
        for part in (layer.erase, layer.add)
    ]
    return layer.address.kernel.numpy().T.astype(float), *pairs


def check_feature_memory(layer_class):
    layer = _made(layer_class)
    keys, erase, add = _weights(layer)
    memory = layer(*_inputs())
    read = layer.read(_queries(), memory)
    for row in range(len(IDS)):
        expected = reference.rum_memory(sequences.events_of(row), keys, erase, add, DIM)
        np.testing.assert_allclose(memory[row], expected, rtol=1e-4, atol=1e-5)
        for candidate, query in enumerate(_queries().numpy()[row].astype(float)):
            np.testing.assert_allclose(
                read[row, candidate],
                reference.rum_features(query, expected, keys),
                rtol=1e-4,
                atol=1e-5,
            )


class SeesPadding(FeatureMemory):
    def call(self, events, is_event):
        return super().call(events, tf.ones_like(is_event))


class NewestFirst(FeatureMemory):
    def call(self, events, is_event):
        return super().call(tf.reverse(events, [1]), tf.reverse(is_event, [1]))


class ErasesNothing(FeatureMemory):
    def call(self, events, is_event):
        super().call(events, is_event)
        keep, self.erase = self.erase, lambda q: 0 * q
        memory = super().call(events, is_event)
        self.erase = keep
        return memory


class ErasesAllSlots(FeatureMemory):
    """The erase vector is not scaled by the address."""

    def call(self, events, is_event):
        memory = super().call(events, is_event)
        return memory * (1 - self.erase(events[:, -1]))[:, tf.newaxis]


class ReadsItself(FeatureMemory):
    """Addresses by the memory instead of the keys."""

    def read(self, queries, memory):
        logits = tf.matmul(queries, memory, transpose_b=True)
        return tf.matmul(tf.nn.softmax(logits), memory)


def test_feature_memory():
    check_feature_memory(FeatureMemory)


@pytest.mark.parametrize(
    "wrong", [SeesPadding, NewestFirst, ErasesNothing, ErasesAllSlots, ReadsItself]
)
def test_feature_memory_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_feature_memory(wrong)


def test_feature_memory_ignores_padding():
    sequences.check_padding_is_irrelevant(_made())


def test_feature_memory_in_a_graph_equals_eager():
    layer = _made()
    sequences.check_graph_equals_eager(layer, vectors(), IS_EVENT)
    empty = np.zeros((2, 0, DIM), np.float32), np.zeros((2, 0), bool)
    sequences.check_graph_equals_eager(layer, *empty)


def test_feature_memory_gradients_reach_every_weight_and_no_padding():
    layer, events = _made(), tf.Variable(vectors())

    def read():
        return layer.read(_queries(), layer(events, tf.constant(IS_EVENT)))

    *_, gradient = sequences.check_gradients(layer, read, events)
    np.testing.assert_array_equal(np.any(gradient, axis=-1), IS_EVENT)


def test_feature_memory_config_makes_the_same_layer():
    layer = _made()
    second = FeatureMemory.from_config(layer.get_config())
    second(*_inputs())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(*_inputs()), layer(*_inputs()))


def test_feature_memory_refuses_no_slots():
    with pytest.raises(ValueError, match="`num_slots` should be >= 1. Received"):
        FeatureMemory(0)
