"""Dropout that draws a byte a unit where Keras draws a float."""

import tensorflow as tf

_LEVELS = 256  # of a byte
_BYTES = 8  # of one draw


@tf.keras.utils.register_keras_serializable("tandem")
class Dropout(tf.keras.layers.Layer):
    """Sets a share of units to 0 in training and scales the others up by what is lost.

    out = x / (1 - q) with probability 1 - q, else 0,    q = rate to the nearest 1/256

    Draws are most of what dropout costs on a CPU, and a byte is enough to decide by.

    Args:
        rate: share of units dropped, in [0, 1).

    References:
        [1] Srivastava et al. Dropout: A Simple Way to Prevent Neural Networks from
            Overfitting. JMLR 2014. Section 4, scaled in training instead of after.
    """

    def __init__(self, rate: float, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` should be in [0, 1). Received: rate={rate}")
        self.rate = rate
        self._dropped = min(round(rate * _LEVELS), _LEVELS - 1)  # of the levels

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns a tensor like the inputs; the inputs themselves when not training."""
        if not (training and self._dropped):
            return inputs
        size = tf.size(inputs)
        seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        draws = tf.random.stateless_uniform(
            [(size + _BYTES - 1) // _BYTES], seed, None, None, tf.uint64
        )
        levels = tf.reshape(tf.bitcast(draws, tf.uint8), [-1])[:size]
        stays = tf.reshape(levels >= self._dropped, tf.shape(inputs))
        scale = tf.cast(_LEVELS / (_LEVELS - self._dropped), inputs.dtype)
        return inputs * (tf.cast(stays, inputs.dtype) * scale)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate}
