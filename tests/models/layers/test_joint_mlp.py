import numpy as np
import pytest
import tensorflow as tf

from models.layers.joint_mlp import JointMLP

QUERY = tf.constant([[1.0, 2.0], [0.0, -1.0]])  # [B, D]
CANDIDATES = tf.constant([[[1.0], [-4.0]], [[0.5], [3.0]]])  # [B, C, E]


def _layer(layer_class=JointMLP, dropout=0.0):
    layer = layer_class((2, 1), dropout)
    layer(QUERY[:, tf.newaxis], CANDIDATES)
    layer.query_dense.set_weights([np.array([[1.0, 0.0], [1.0, 2.0]])])
    layer.candidate_dense.set_weights([np.array([[2.0, -1.0]])])
    layer.bias.assign([0.5, -1.0])
    layer.mlp.set_weights([np.array([[1.0], [2.0]]), np.array([-0.5])])
    layer.out.set_weights([np.array([[3.0]])])
    return layer


class NoBias(JointMLP):
    def call(self, query, candidates, training=False):
        self.bias.assign(tf.zeros_like(self.bias))
        return super().call(query, candidates, training)


class ReluOfEachPart(JointMLP):
    def call(self, query, candidates, training=False):
        query = tf.nn.relu(self.query_dense(query))
        hidden = query + tf.nn.relu(self.candidate_dense(candidates) + self.bias)
        return self.out(self.mlp(hidden))[..., 0]


class SkipsTheFirstRelu(JointMLP):
    def call(self, query, candidates, training=False):
        hidden = self.query_dense(query) + self.candidate_dense(candidates) + self.bias
        return self.out(self.mlp(hidden))[..., 0]


def check_joint_mlp(layer_class):
    """By hand; of row 0: [3, 4] + [2, -1] + [.5, -1] -> 5.5 + 2 * 2 - .5 = 9."""
    logits = _layer(layer_class)(QUERY[:, tf.newaxis], CANDIDATES)
    np.testing.assert_allclose(logits, [[27.0, 40.5], [0.0, 15.0]])


def test_joint_mlp_value():
    check_joint_mlp(JointMLP)


@pytest.mark.parametrize("wrong", [NoBias, ReluOfEachPart, SkipsTheFirstRelu])
def test_joint_mlp_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_joint_mlp(wrong)


def test_joint_mlp_of_one_query_equals_the_query_repeated():
    layer = _layer()
    np.testing.assert_allclose(
        layer(QUERY[:, tf.newaxis], CANDIDATES),
        layer(tf.repeat(QUERY[:, tf.newaxis], 2, axis=1), CANDIDATES),
    )


def test_joint_mlp_drops_units_in_training_only():
    layer = _layer(dropout=0.9)
    query = tf.ones([50, 1, 2])
    candidates = tf.ones([50, 1, 1])
    one = float(layer(query[:1], candidates[:1])[0, 0])
    np.testing.assert_allclose(layer(query, candidates), np.full([50, 1], one))
    assert not np.allclose(layer(query, candidates, training=True), one)


def test_joint_mlp_config_round_trip_behaves_alike():
    first = _layer()
    second = JointMLP.from_config(first.get_config())
    second(QUERY[:, tf.newaxis], CANDIDATES)
    second.set_weights(first.get_weights())
    inputs = QUERY[:, tf.newaxis], CANDIDATES
    np.testing.assert_array_equal(first(*inputs), second(*inputs))


@pytest.mark.parametrize("bad", [{"hidden": ()}, {"hidden": (2,), "dropout": 1.0}])
def test_joint_mlp_refuses(bad):
    with pytest.raises(ValueError, match="hidden|dropout"):
        JointMLP(**bad)
