"""An activation that bends where its inputs lie, instead of at 0, and a network of it."""

from collections.abc import Sequence

import tensorflow as tf

from models.layers.joint_mlp import JointMLP


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
class DiceMLP(JointMLP):
    """`JointMLP` with Dice in the place of the ReLU.

    hidden = dice(W_q query + W_c candidate + b), then further layers; out = <w, hidden>
    """

    def make_layers(self, rest: Sequence[int]) -> None:
        """Makes the layers behind the first, and a Dice for each."""
        self.dense = [
            tf.keras.layers.Dense(units, name=f"dense_{place}")
            for place, units in enumerate(rest)
        ]
        self.dice = [Dice(name=f"dice_{place}") for place in range(len(self.hidden))]

    def bend(self, first: tf.Tensor, training: bool) -> tf.Tensor:
        """See `JointMLP.bend`."""
        hidden = first
        for place, dice in enumerate(self.dice):
            if place:
                hidden = self.dense[place - 1](hidden)
            hidden = self.dropout(dice(hidden, training=training), training=training)
        return hidden
