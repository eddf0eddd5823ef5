"""An activation that bends where its inputs lie, instead of at 0, and a network of it."""

from collections.abc import Sequence

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("tandem")
class Dice(tf.keras.layers.Layer):
    """A data-adaptive PReLU.

    p = sigmoid((x - mean) / sqrt(variance + epsilon));  y = p * x + (1 - p) * alpha * x

    Mean and variance of each unit are a batch's in training, and moving averages of
    those at serving, where a row must not depend on its neighbours.

    Args:
        momentum: of the moving averages.

    References:
        [1] Zhou et al. Deep Interest Network for Click-Through Rate Prediction. KDD
            2018. Eq. (4).
    """

    def __init__(self, momentum: float = 0.9, **kwargs) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.normalise = tf.keras.layers.BatchNormalization(
            momentum=momentum, epsilon=1e-8, center=False, scale=False, name="normalise"
        )

    def build(self, input_shape: tf.TensorShape) -> None:
        self.alpha = self.add_weight("alpha", input_shape[-1:], initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns y, of the shape of x."""
        rows = tf.reshape(inputs, [-1, inputs.shape[-1]])  # a unit is normalised alike
        share = tf.sigmoid(self.normalise(rows, training=training))
        share = tf.reshape(share, tf.shape(inputs))
        return share * inputs + (1 - share) * self.alpha * inputs

    def get_config(self) -> dict:
        return {**super().get_config(), "momentum": self.momentum}


@tf.keras.utils.register_keras_serializable("tandem")
class DiceMLP(tf.keras.layers.Layer):
    """`joint_mlp.JointMLP` with Dice in the place of the ReLU.

    hidden = dice(W_q query + W_c candidate + b), then further layers; out = <w, hidden>

    Args:
        hidden: number of units of each layer, at least one layer.
        dropout: share of a layer's outputs dropped in training, in [0, 1).
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if not hidden:
            raise ValueError("`hidden` should have a layer or more. Received: none")
        self.hidden = tuple(hidden)
        self.rate = dropout
        first, *rest = self.hidden
        dense = tf.keras.layers.Dense
        self.query_dense = dense(first, use_bias=False, name="query_dense")
        self.candidate_dense = dense(first, use_bias=False, name="candidate_dense")
        self.bias = self.add_weight(name="bias", shape=(first,), initializer="zeros")
        self.dense = [
            dense(units, name=f"dense_{place}") for place, units in enumerate(rest)
        ]
        self.dice = [Dice(name=f"dice_{place}") for place in range(len(self.hidden))]
        self.dropout = tf.keras.layers.Dropout(dropout)
        self.out = dense(1, use_bias=False, name="out")

    def call(
        self, query: tf.Tensor, candidates: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns [B, C].

        Args:
            query: [B, 1, D], or [B, C, D].
            candidates: [B, C, E].
            training: whether to drop units, and to normalise by the batch.
        """
        hidden = self.query_dense(query) + self.candidate_dense(candidates) + self.bias
        for place, dice in enumerate(self.dice):
            if place:
                hidden = self.dense[place - 1](hidden)
            hidden = self.dropout(dice(hidden, training=training), training=training)
        return tf.squeeze(self.out(hidden), axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "dropout": self.rate,
        }
