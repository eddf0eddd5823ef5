"""An activation that bends where its inputs lie, instead of at 0."""

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
