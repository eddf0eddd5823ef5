import numpy as np
import pytest
import tensorflow as tf

from models.layers.augru import Augru
from models.layers.options import AugruForm
from models.layers.target_attention import masked_softmax
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import DIM, IDS, IS_EVENT, vectors

UNITS, CANDIDATES = 2, 3


def _attention():
    """Returns [B, C, T]: shares of the events, 0 at padding."""
    logits = np.random.default_rng(4).normal(size=(len(IDS), CANDIDATES, 5))
    return masked_softmax(tf.constant(logits, tf.float32), IS_EVENT[:, np.newaxis])


def _inputs():
    return tf.constant(vectors()), _attention(), tf.constant(IS_EVENT)


def _made(layer_class=Augru, **options):
    return sequences.randomised(layer_class(UNITS, **options), *_inputs())


def _gates(layer):
    parts = [
        np.split(weight.numpy().astype(float), 3, axis=-1)
        for weight in (layer.kernel, layer.recurrent_kernel, layer.bias)
    ]
    names = ("update", "reset", "new")
    return dict(zip(names, zip(*parts, strict=True), strict=True))


def check_augru(layer_class, form):
    layer = _made(layer_class, form=form)
    attention, gates = _attention().numpy(), _gates(layer)
    found = layer(*_inputs())
    assert found.shape == (len(IDS), CANDIDATES, UNITS)
    for row, of_row in enumerate(found.numpy()):
        for candidate, state in enumerate(of_row):
            shares = attention[row, candidate][IS_EVENT[row]]
            expected = reference.augru_state(
                sequences.events_of(row), shares, gates, form.value
            )
            np.testing.assert_allclose(state, expected, rtol=1e-4, atol=1e-5)


class OtherForm(Augru):
    """The published mistake: the gate that keeps is taken for the one that renews."""

    def __init__(self, units, form, **kwargs):
        other = [other for other in AugruForm if other is not AugruForm(form)]
        super().__init__(units, other[0], **kwargs)


class AttentionOnTheInput(Augru):
    """AIGRU: the events are scaled, not the gate."""

    def call(self, vectors, attention, is_event):
        scaled = vectors * attention[:, 0, :, tf.newaxis]
        return super().call(scaled, tf.ones_like(attention), is_event)


class ReplacesTheGate(Augru):
    """AGRU: the attention is the gate."""

    def _share(self, attention, update):
        return attention * tf.ones_like(update)


class SeesPadding(Augru):
    def call(self, vectors, attention, is_event):
        return super().call(vectors, attention + 0.1, tf.ones_like(is_event))


class OneAttentionForAll(Augru):
    def call(self, vectors, attention, is_event):
        return super().call(vectors, tf.repeat(attention[:, :1], 3, 1), is_event)


@pytest.mark.parametrize("form", AugruForm)
def test_augru(form):
    check_augru(Augru, form)


@pytest.mark.parametrize("form", AugruForm)
@pytest.mark.parametrize(
    "wrong",
    [OtherForm, AttentionOnTheInput, ReplacesTheGate, SeesPadding, OneAttentionForAll],
)
def test_augru_checker_rejects(wrong, form):
    with pytest.raises(AssertionError):
        check_augru(wrong, form)


def _plain_gru(layer):
    gates = _gates(layer)
    states = [
        reference.gru_states(sequences.events_of(row), gates) for row in range(len(IDS))
    ]
    zeros = np.zeros(UNITS)
    return [of_row[-1] if of_row else zeros for of_row in states]


def check_limits(layer_class):
    """a = 0 leaves the paper's state and is a plain GRU in the code, which a = 1 is in
    the paper."""
    events, attention, is_event = _inputs()
    none, all_of_it = tf.zeros_like(attention), tf.ones_like(attention)
    paper, code = (_made(layer_class, form=form) for form in AugruForm)
    assert not np.any(paper(events, none, is_event))
    for layer, limit in ((paper, all_of_it), (code, none)):
        found = layer(events, limit, is_event)[:, 0]
        np.testing.assert_allclose(found, _plain_gru(layer), rtol=1e-4, atol=1e-5)


def test_augru_limits():
    check_limits(Augru)


@pytest.mark.parametrize("wrong", [OtherForm, ReplacesTheGate])
def test_augru_limits_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_limits(wrong)


@pytest.mark.parametrize("form", AugruForm)
def test_augru_ignores_padding(form):
    layer = _made(form=form)

    def read(events, is_event):
        shares = np.zeros(is_event.shape, np.float32)
        shares[is_event.numpy()] = [0.5, 0.2, 0.3]
        return layer(events, tf.constant(shares)[:, tf.newaxis], is_event)

    sequences.check_padding_is_irrelevant(read)


def test_augru_in_a_graph_equals_eager():
    layer = _made()
    inputs = vectors(), _attention().numpy(), IS_EVENT
    specs = [
        tf.TensorSpec([None, None, DIM]),
        tf.TensorSpec([None, None, None]),
        tf.TensorSpec([None, None], tf.bool),
    ]
    graph = tf.function(layer, input_signature=specs)
    np.testing.assert_allclose(graph(*inputs), layer(*_inputs()), rtol=1e-5, atol=1e-6)
    empty = np.zeros((2, 0, DIM)), np.zeros((2, 4, 0)), np.zeros((2, 0), bool)
    np.testing.assert_array_equal(graph(*empty), np.zeros((2, 4, UNITS)))


def test_augru_gradients_reach_every_weight_and_no_padding():
    layer, events = _made(), tf.Variable(vectors())
    attention = tf.Variable(_attention())
    *_, of_events, of_attention = sequences.check_gradients(
        layer,
        lambda: layer(events, attention, tf.constant(IS_EVENT)),
        events,
        attention,
    )
    np.testing.assert_array_equal(np.any(of_events, axis=-1), IS_EVENT)
    np.testing.assert_array_equal(np.any(of_attention, axis=1), IS_EVENT)


def test_augru_config_makes_the_same_layer():
    layer = _made(form=AugruForm.CODE)
    second = Augru.from_config(layer.get_config())
    second(*_inputs())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(*_inputs()), layer(*_inputs()))
