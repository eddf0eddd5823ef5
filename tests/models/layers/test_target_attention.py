import numpy as np
import pytest
import tensorflow as tf

from models.layers.target_attention import TargetAttention, masked_softmax
from tests import reference_sequence as reference
from tests.models.layers import sequences
from tests.models.layers.sequences import DIM, IDS, IS_EVENT, vectors

HIDDEN = (4, 2)
CANDIDATES = 3

# masked_softmax


def check_masked_softmax(softmax):
    logits = np.random.default_rng(0).normal(size=IDS.shape, scale=3.0) - 5.0
    expected = np.zeros(IDS.shape)
    for row, kept in enumerate(IS_EVENT):
        if kept.any():
            expected[row, kept] = reference.softmax(logits[row, kept])
    found = softmax(tf.constant(logits), tf.constant(IS_EVENT))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


WRONG_SOFTMAXES = {
    "padding has a share": lambda logits, kept: tf.nn.softmax(logits),
    "not normalised": lambda logits, kept: tf.where(kept, tf.nn.softmax(logits), 0.0),
    "padding has the logit 0": lambda logits, kept: tf.nn.softmax(
        tf.where(kept, logits, 0.0)
    ),
    "sigmoids": lambda logits, kept: tf.where(kept, tf.sigmoid(logits), 0.0),
    "shares of padding alone": lambda logits, kept: tf.nn.softmax(
        tf.where(kept, logits, -1e30)
    ),
}


def test_masked_softmax():
    check_masked_softmax(masked_softmax)


@pytest.mark.parametrize("wrong", WRONG_SOFTMAXES.values(), ids=WRONG_SOFTMAXES)
def test_masked_softmax_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_masked_softmax(wrong)


def test_masked_softmax_has_finite_gradients_where_nothing_is_kept():
    logits = tf.Variable(np.zeros(IDS.shape))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(masked_softmax(logits, tf.constant(IS_EVENT)) ** 2)
    assert np.isfinite(tape.gradient(loss, logits)).all()


# TargetAttention


def _queries():
    return tf.constant(vectors(len(IDS), CANDIDATES, seed=8))


def _inputs():
    return _queries(), tf.constant(vectors()), tf.constant(IS_EVENT)


def _made(layer_class=TargetAttention):
    return sequences.randomised(layer_class(HIDDEN), *_inputs())


def _four_matrices(layer):
    """Returns the first layer on [q, k, q - k, q * k], the third matrix at random."""
    of_query, of_key, of_product = (
        part.kernel.numpy().astype(float)
        for part in (layer.of_query, layer.of_key, layer.of_product)
    )
    of_difference = np.random.default_rng(6).normal(size=of_query.shape)
    parts = [of_query - of_difference, of_key + of_difference]
    kernel = np.concatenate([*parts, of_difference, of_product])
    return kernel, layer.of_query.bias.numpy()


def check_target_attention(layer_class):
    layer = _made(layer_class)
    hidden = [
        _four_matrices(layer),
        *((dense.kernel.numpy(), dense.bias.numpy()) for dense in layer.dense),
    ]
    logit = layer.logit.kernel.numpy()[:, 0]
    found = layer(*_inputs()).numpy()
    expected = np.zeros((len(IDS), CANDIDATES, IDS.shape[1]))
    for row, candidate in np.ndindex(expected.shape[:2]):
        if IS_EVENT[row].any():
            expected[row, candidate, IS_EVENT[row]] = reference.target_attention(
                _queries().numpy()[row, candidate],
                sequences.events_of(row),
                hidden,
                logit,
            )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


class SeesPadding(TargetAttention):
    def call(self, queries, keys, is_event):
        return super().call(queries, keys, tf.ones_like(is_event))


class SwapsRoles(TargetAttention):
    def call(self, queries, keys, is_event):
        super().call(queries, keys, is_event)  # builds both
        self.of_query, self.of_key = self.of_key, self.of_query
        shares = super().call(queries, keys, is_event)
        self.of_query, self.of_key = self.of_key, self.of_query
        return shares


class NoProduct(TargetAttention):
    def call(self, queries, keys, is_event):
        shares = super().call(queries, keys, is_event)
        kernel = self.of_product.kernel
        value = kernel.numpy()
        kernel.assign(0 * kernel)
        shares = super().call(queries, keys, is_event)
        kernel.assign(value)
        return shares


class OneCandidateForAll(TargetAttention):
    def call(self, queries, keys, is_event):
        return super().call(tf.repeat(queries[:, :1], 3, 1), keys, is_event)


def test_target_attention():
    check_target_attention(TargetAttention)


@pytest.mark.parametrize(
    "wrong", [SeesPadding, SwapsRoles, NoProduct, OneCandidateForAll]
)
def test_target_attention_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_target_attention(wrong)


def test_target_attention_ignores_padding():
    layer = _made()

    def read(events, is_event):
        shares = layer(_queries()[:1], events, is_event)
        return tf.boolean_mask(shares[0], is_event[0], axis=1)

    sequences.check_padding_is_irrelevant(read)


def test_target_attention_gradients_reach_every_weight_and_no_padding():
    layer, events = _made(), tf.Variable(vectors())
    *_, gradient = sequences.check_gradients(
        layer, lambda: layer(_queries(), events, tf.constant(IS_EVENT)), events
    )
    assert not np.any(gradient.numpy()[~IS_EVENT])


def test_target_attention_takes_histories_of_no_column():
    empty = tf.zeros([2, 0, DIM]), tf.zeros([2, 0], tf.bool)
    assert _made()(_queries()[:2], *empty).shape == (2, CANDIDATES, 0)


def test_target_attention_config_makes_the_same_layer():
    layer = _made()
    second = TargetAttention.from_config(layer.get_config())
    second(*_inputs())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(*_inputs()), layer(*_inputs()))


def test_target_attention_refuses_no_layers():
    with pytest.raises(ValueError, match="`hidden` should name one layer or more"):
        TargetAttention(())
