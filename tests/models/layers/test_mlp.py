import numpy as np
import pytest
import tensorflow as tf

from models.layers.mlp import MLP


def _layer(layer_class=MLP, dropout=0.0):
    layer = layer_class((2, 1), dropout)
    layer(tf.zeros([1, 2]))
    weights = [[[1.0, -1.0], [2.0, 1.0]], [0.5, 0.0], [[1.0], [3.0]], [-1.0]]
    layer.set_weights([np.array(weight) for weight in weights])
    return layer


class NoRelu(MLP):
    def __init__(self, hidden, dropout=0.0, **kwargs):
        super().__init__(hidden, dropout, **kwargs)
        self.dense = [tf.keras.layers.Dense(units) for units in hidden]


class LastLayerOnly(MLP):
    def call(self, inputs, training=False):
        super().call(inputs)
        return self.dense[-1](inputs)


def check_mlp(layer_class):
    """(1, 1): relu(3.5, 0) -> 3.5 - 1; (1, -2): relu(-2.5, -3) -> relu(-1) = 0."""
    inputs = tf.constant([[1.0, 1.0], [1.0, -2.0]])
    np.testing.assert_allclose(_layer(layer_class)(inputs), [[2.5], [0.0]])


def test_mlp_value():
    check_mlp(MLP)


@pytest.mark.parametrize("wrong", [NoRelu, LastLayerOnly])
def test_mlp_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_mlp(wrong)


def test_mlp_drops_units_in_training_only():
    layer = _layer(dropout=0.9)
    inputs = tf.ones([50, 2])
    np.testing.assert_allclose(layer(inputs), np.full([50, 1], 2.5))
    assert not np.allclose(layer(inputs, training=True), 2.5)


def test_mlp_without_layers_is_the_identity():
    np.testing.assert_array_equal(MLP(())(tf.eye(3)), np.eye(3))


def test_mlp_config_round_trip_behaves_alike():
    first = _layer()
    second = MLP.from_config(first.get_config())
    second(tf.zeros([1, 2]))
    second.set_weights(first.get_weights())
    inputs = tf.random.normal([5, 2])
    np.testing.assert_array_equal(first(inputs), second(inputs))


def test_mlp_refuses_to_drop_everything():
    with pytest.raises(ValueError, match=r"`dropout` should be in \[0, 1\). Received"):
        MLP((2,), dropout=1.0)
