import numpy as np
import pytest
import tensorflow as tf

from models.layers.hierarchical_attention import HierarchicalAttention
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import IDS, IS_EVENT, vectors

NEWEST = 2  # of the rows' 3, 3, 0 and 5 events


def _users():
    return tf.constant(vectors(len(IDS), seed=7))


def _inputs():
    return _users(), tf.constant(vectors()), tf.constant(IS_EVENT)


def _made(layer_class=HierarchicalAttention, num_newest=NEWEST):
    return sequences.randomised(layer_class(num_newest), *_inputs())


def _expected(layer, num_newest):
    keys = [
        (key.kernel.numpy().astype(float), key.bias.numpy())
        for key in (layer.long_key, layer.hybrid_key)
    ]
    return [
        reference.shan_user(
            user.astype(float), sequences.events_of(row), num_newest, *keys
        )
        for row, user in enumerate(_users().numpy())
    ]


def check_hierarchical_attention(layer_class, num_newest=NEWEST):
    layer = _made(layer_class, num_newest)
    np.testing.assert_allclose(
        layer(*_inputs()), _expected(layer, num_newest), rtol=1e-4, atol=1e-5
    )


class NoLongTerm(HierarchicalAttention):
    """The published mistake: the newest events alone."""

    def call(self, user, events, is_event):
        newest = tf.cumsum(tf.cast(is_event, tf.int32), axis=1, reverse=True)
        return super().call(user, events, is_event & (newest <= self.num_newest))


class OneKeyForBoth(HierarchicalAttention):
    """The printed mistake of some notes: W_1 in both layers."""

    def call(self, user, events, is_event):
        super().call(user, events, is_event)  # builds both
        hybrid_key, self.hybrid_key = self.hybrid_key, self.long_key
        out = super().call(user, events, is_event)
        self.hybrid_key = hybrid_key
        return out


class SeesPadding(HierarchicalAttention):
    def call(self, user, events, is_event):
        return super().call(user, events, tf.ones_like(is_event))


class OneAttention(HierarchicalAttention):
    """Attends to old and new events alike."""

    def call(self, user, events, is_event):
        few, self.num_newest = self.num_newest, 100
        out = super().call(user, events, is_event)
        self.num_newest = few
        return out


class MeanOfLongAndShort(HierarchicalAttention):
    def call(self, user, events, is_event):
        return super().call(0 * user, events, is_event)


@pytest.mark.parametrize("num_newest", [1, 2, 4, 9])
def test_hierarchical_attention(num_newest):
    check_hierarchical_attention(HierarchicalAttention, num_newest)


@pytest.mark.parametrize(
    "wrong", [NoLongTerm, OneKeyForBoth, SeesPadding, OneAttention, MeanOfLongAndShort]
)
def test_hierarchical_attention_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_hierarchical_attention(wrong)


def test_hierarchical_attention_ignores_padding():
    layer = _made()
    sequences.check_padding_is_irrelevant(
        lambda events, is_event: layer(_users()[:1], events, is_event)
    )


def test_hierarchical_attention_in_a_graph_equals_eager():
    layer = _made()
    graph = tf.function(
        layer,
        input_signature=[
            tf.TensorSpec([None, 3]),
            tf.TensorSpec([None, None, 3]),
            tf.TensorSpec([None, None], tf.bool),
        ],
    )
    np.testing.assert_allclose(graph(*_inputs()), layer(*_inputs()), rtol=1e-5)
    empty = graph(_users(), np.zeros((4, 0, 3)), np.zeros((4, 0), bool))
    np.testing.assert_array_equal(empty, np.zeros((4, 3)))


def test_hierarchical_attention_gradients_reach_every_weight_and_no_padding():
    layer, events = _made(), tf.Variable(vectors())
    *_, gradient = sequences.check_gradients(
        layer, lambda: layer(_users(), events, tf.constant(IS_EVENT)), events
    )
    assert not np.any(gradient.numpy()[~IS_EVENT])


def test_hierarchical_attention_config_makes_the_same_layer():
    layer = _made()
    second = HierarchicalAttention.from_config(layer.get_config())
    second(*_inputs())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(*_inputs()), layer(*_inputs()))


def test_hierarchical_attention_refuses_no_newest_events():
    with pytest.raises(ValueError, match="`num_newest` should be >= 1. Received"):
        HierarchicalAttention(0)
