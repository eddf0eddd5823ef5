"""The recurrent and attention summaries beside slow references, an item at a time."""

import math

import numpy as np
import pytest
import tensorflow as tf

from models.layers.history_encoder import HistoryAttention, HistoryGru

IDS = np.array([[0, 0, 7, 3, 9], [4, 4, 0, 5, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
DIM = 3


def embeddings():
    return np.random.default_rng(0).normal(size=(*IDS.shape, DIM)).astype(np.float32)


def randomised(layer):
    """Builds a layer and gives every weight a value that shows."""
    layer(tf.constant(embeddings()), tf.constant(IDS))
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    return layer


def weights_of(layer):
    """Returns the values by the end of their names."""
    names = ["/".join(w.name.split(":")[0].split("/")[1:]) for w in layer.weights]
    values = [w.numpy().astype(float) for w in layer.weights]
    return dict(zip(names, values, strict=True))


# ---------------------------------------------------------------- attention


def slow_attention(layer, num_blocks):
    """Returns [B, K], by loops over rows and items."""
    w = weights_of(layer)
    out = np.zeros((len(IDS), DIM))
    for row, (ids, vectors) in enumerate(zip(IDS, embeddings(), strict=True)):
        items = vectors[ids != 0].astype(float)
        if not len(items):
            continue
        positions = w["positions"][: len(items)][::-1]
        states = [item + place for item, place in zip(items, positions, strict=True)]
        for block in range(num_blocks):
            states = slow_block(w, f"block_{block}", states)
        out[row] = states[-1] @ w["out/kernel"] + w["out/bias"]
    return out


def slow_block(w, block, states):
    def apply(name, x):
        return x @ w[f"{block}/{name}/kernel"] + w.get(f"{block}/{name}/bias", 0.0)

    def normalise(name, x):
        centred = x - x.mean()
        scaled = centred / math.sqrt((centred**2).mean() + 1e-6)
        return scaled * w[f"{block}/{name}/gamma"] + w[f"{block}/{name}/beta"]

    moved = []
    for newest, state in enumerate(states):
        query = apply("query", normalise("before_attention", state))
        older = [normalise("before_attention", s) for s in states[: newest + 1]]
        logits = np.array([query @ apply("key", s) for s in older]) / DIM**0.5
        share = np.exp(logits - logits.max())
        values = np.array([apply("value", s) for s in older])
        state = state + (share / share.sum()) @ values
        wide = apply("widen", normalise("before_dense", state))
        gelu = [x * 0.5 * (1 + math.erf(x / 2**0.5)) for x in wide]
        moved.append(state + apply("narrow", np.array(gelu)))
    return moved


def check_attention(layer_class, num_blocks):
    """The checker."""
    layer = randomised(layer_class(5, num_blocks))
    found = layer(tf.constant(embeddings()), tf.constant(IDS))
    np.testing.assert_allclose(found, slow_attention(layer, num_blocks), atol=2e-4)


class SeesPadding(HistoryAttention):
    def call(self, embeddings, history_ids):
        return super().call(embeddings, tf.where(history_ids == 0, 1, history_ids))


class PlaceByColumn(HistoryAttention):
    """Positions by column: padding moves them."""

    def call(self, embeddings, history_ids):
        columns = tf.reverse(self.positions, [0])
        place = tf.gather(
            self.positions,
            tf.maximum(
                tf.cumsum(
                    tf.cast(history_ids != 0, tf.int32), 1, exclusive=True, reverse=True
                ),
                0,
            ),
        )
        return super().call(embeddings + columns - place, history_ids)


class SeesNewer(HistoryAttention):
    """Items look at newer ones too; shows with two blocks."""

    def call(self, embeddings, history_ids):
        first, self.blocks[0] = self.blocks[0], _Unmasked(self.blocks[0])
        out = super().call(embeddings, history_ids)
        self.blocks[0] = first
        return out


class _Unmasked:
    def __init__(self, block):
        self._block = block

    def __call__(self, queries, states, is_seen):
        items = tf.reduce_any(is_seen, axis=1, keepdims=True)
        return self._block(queries, states, items)


class KeepsBias(HistoryAttention):
    """Gives the projection's bias to a user without history."""

    def call(self, embeddings, history_ids):
        empty = tf.reduce_all(history_ids == 0, axis=1, keepdims=True)
        out = super().call(embeddings, history_ids)
        return out + tf.where(empty, self.out.bias, 0.0)


@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_attention(num_blocks):
    check_attention(HistoryAttention, num_blocks)


@pytest.mark.parametrize(
    ("wrong", "num_blocks"),
    [(SeesPadding, 1), (PlaceByColumn, 1), (SeesNewer, 2), (KeepsBias, 1)],
)
def test_attention_checker_rejects(wrong, num_blocks):
    with pytest.raises(AssertionError):
        check_attention(wrong, num_blocks)


# ---------------------------------------------------------------- GRU


def slow_gru(layer):
    """Returns [B, K]: Cho et al., eq. (5) to (8), in Keras's order of gates z, r, h."""
    w = weights_of(layer)
    kernel, recurrent, bias = (
        w[f"gru/gru_cell/{name}"] for name in ("kernel", "recurrent_kernel", "bias")
    )
    out = np.zeros((len(IDS), DIM))
    for row, (ids, vectors) in enumerate(zip(IDS, embeddings(), strict=True)):
        h = np.zeros(DIM)
        for x in vectors[ids != 0].astype(float):
            wx = np.split(x @ kernel + bias, 3)
            u = np.split(recurrent, 3, axis=1)
            z = sigmoid(wx[0] + h @ u[0])
            r = sigmoid(wx[1] + h @ u[1])
            candidate = np.tanh(wx[2] + (r * h) @ u[2])
            h = z * h + (1 - z) * candidate
        out[row] = h @ w["out/kernel"] if (ids != 0).any() else 0
    return out


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def check_gru(layer_class):
    """The checker."""
    layer = randomised(layer_class())
    found = layer(tf.constant(embeddings()), tf.constant(IDS))
    np.testing.assert_allclose(found, slow_gru(layer), atol=2e-4)


class GruSeesPadding(HistoryGru):
    def call(self, embeddings, history_ids):
        return super().call(embeddings, tf.maximum(history_ids, 1))


class GruNewestFirst(HistoryGru):
    def call(self, embeddings, history_ids):
        return super().call(tf.reverse(embeddings, [1]), tf.reverse(history_ids, [1]))


def test_gru():
    check_gru(HistoryGru)


@pytest.mark.parametrize("wrong", [GruSeesPadding, GruNewestFirst])
def test_gru_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_gru(wrong)


# ---------------------------------------------------------------- both

ENCODERS = {
    "attention": lambda: HistoryAttention(5),
    "two blocks": lambda: HistoryAttention(5, 2),
    "gru": HistoryGru,
}


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_encoder_starts_at_zero(make):
    assert not np.any(make()(tf.constant(embeddings()), tf.constant(IDS)))


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_where_padding_stands_changes_nothing(make):
    layer = randomised(make())
    vectors = np.random.default_rng(2).normal(size=(1, 3, DIM)).astype(np.float32)
    left = np.concatenate([np.ones((1, 2, DIM), np.float32), vectors], axis=1)
    right = np.concatenate([vectors, np.ones((1, 2, DIM), np.float32)], axis=1)
    np.testing.assert_allclose(
        layer(tf.constant(left), tf.constant([[0, 0, 1, 2, 3]])),
        layer(tf.constant(right), tf.constant([[1, 2, 3, 0, 0]])),
        atol=1e-5,
    )


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_gradients_are_finite_and_reach_every_weight(make):
    layer = randomised(make())
    vectors = tf.Variable(embeddings())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(vectors, tf.constant(IDS)) ** 2)
    gradients = tape.gradient(loss, [*layer.trainable_weights, vectors])
    for gradient in gradients:
        values = tf.convert_to_tensor(gradient)
        assert np.isfinite(values).all()
        assert np.any(values)
    assert not np.any(gradients[-1][2])  # the row of padding


@pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
def test_config_makes_the_same_layer(make):
    layer = make()
    assert type(layer).from_config(layer.get_config()).get_config() == (
        layer.get_config()
    )


@pytest.mark.parametrize(
    ("arguments", "name"), [((0,), "history_length"), ((5, 0), "num_blocks")]
)
def test_attention_refuses_sizes_below_one(arguments, name):
    with pytest.raises(ValueError, match=rf"`{name}` should be >= 1.*{name}=0"):
        HistoryAttention(*arguments)
