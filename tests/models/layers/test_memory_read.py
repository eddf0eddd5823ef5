"""The read beside a loop over targets, hops and slots."""

import numpy as np
import pytest
import tensorflow as tf

from models.layers.memory_read import MemoryRead
from tests import reference_memory

BATCH, SLOTS, UNITS, CANDIDATES, TARGET = 3, 4, 5, 2, 6


def inputs():
    rng = np.random.default_rng(0)
    memory = rng.normal(size=[BATCH, SLOTS, UNITS])
    memory[1] = 0.0  # a user without events
    targets = rng.normal(size=[BATCH, CANDIDATES, TARGET])
    return tf.constant(memory, tf.float32), tf.constant(targets, tf.float32)


def randomised(layer_class, hops):
    layer = layer_class(UNITS, (7, 3), hops)
    layer(*inputs())
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    return layer


def weights_of(layer):
    dense = [(part.kernel.numpy(), part.bias.numpy()) for part in layer.mlp.dense]
    return {
        "query": (layer.query.kernel.numpy(), layer.query.bias.numpy()),
        "dense": [*dense, (layer.energy.kernel.numpy(), np.zeros(1))],
        "hop": layer.hop.kernel.numpy(),
    }


def check_read(layer_class):
    """The checker."""
    for hops in (1, 3):
        layer = randomised(layer_class, hops)
        memory, targets = inputs()
        found = layer(memory, targets)
        for row in range(BATCH):
            for candidate in range(CANDIDATES):
                expected = reference_memory.memory_read(
                    *(memory[row].numpy(), targets[row, candidate].numpy()),
                    *(weights_of(layer), hops),
                )
                for part, slow in zip(found, expected, strict=True):
                    np.testing.assert_allclose(part[row, candidate], slow, atol=2e-4)


class AsksWithTheFirstQuery(MemoryRead):
    """Each hop reads by the target alone: hops repeat the first."""

    def call(self, memory, targets):
        query, first = self.query(targets), self.query(targets)
        weights = self._weights(memory, first)
        for _ in range(self.hops):
            query = self.hop(query) + tf.matmul(weights, memory)
        return query, tf.stack([weights] * self.hops, axis=2)


class AddsTheQueryAsItIs(MemoryRead):
    def call(self, memory, targets):
        query, shares = self.query(targets), []
        for _ in range(self.hops):
            shares.append(self._weights(memory, query))
            query += tf.matmul(shares[-1], memory) + 0 * self.hop(query)
        return query, tf.stack(shares, axis=2)


class WeighsBySigmoid(MemoryRead):
    def _weights(self, memory, query):
        return tf.sigmoid(tf.math.log(super()._weights(memory, query)))


class ReadsTheMean(MemoryRead):
    def _weights(self, memory, query):
        return tf.ones_like(super()._weights(memory, query)) / SLOTS


class SoftmaxOverTargets(MemoryRead):
    def _weights(self, memory, query):
        return tf.nn.softmax(tf.math.log(super()._weights(memory, query)), axis=1)


def test_read_equals_the_loop():
    check_read(MemoryRead)


@pytest.mark.parametrize(
    "wrong",
    [
        AsksWithTheFirstQuery,
        AddsTheQueryAsItIs,
        WeighsBySigmoid,
        ReadsTheMean,
        SoftmaxOverTargets,
    ],
)
def test_read_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_read(wrong)


def test_order_of_slots_is_irrelevant():
    layer = randomised(MemoryRead, 2)
    memory, targets = inputs()
    read, weights = layer(memory, targets)
    again, turned = layer(memory[:, ::-1], targets)
    np.testing.assert_allclose(again, read, atol=1e-5)
    np.testing.assert_allclose(turned[..., ::-1], weights, atol=1e-5)


@pytest.mark.parametrize("name", ["units", "hops"])
def test_bad_size_is_named(name):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: {name}=0"):
        MemoryRead(**{"units": UNITS, "hops": 1, name: 0})


def test_read_from_its_config_gives_the_same():
    layer = randomised(MemoryRead, 2)
    again = MemoryRead.from_config(layer.get_config())
    again(*inputs())
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(*inputs())[0], layer(*inputs())[0])
