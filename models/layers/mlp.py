"""A stack of fully connected layers."""

from collections.abc import Sequence

import tensorflow as tf

from models.layers.dropout import Dropout


@tf.keras.utils.register_keras_serializable("tandem")
class MLP(tf.keras.layers.Layer):
    """ReLU layers, each followed by dropout; the last axis is transformed.

    Args:
        hidden: number of units of each layer; an empty one is the identity.
        dropout: share of a layer's outputs dropped in training, in [0, 1).
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if not 0 <= dropout < 1:
            raise ValueError(
                f"`dropout` should be in [0, 1). Received: dropout={dropout}"
            )
        self.hidden = tuple(hidden)
        self.dropout = dropout
        self.dense = [
            tf.keras.layers.Dense(units, activation="relu") for units in self.hidden
        ]
        self.drop = Dropout(dropout)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns [..., hidden[-1]] for inputs [..., D]."""
        outputs = inputs
        for dense in self.dense:
            outputs = self.drop(dense(outputs), training=training)
        return outputs

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "dropout": self.dropout,
        }
