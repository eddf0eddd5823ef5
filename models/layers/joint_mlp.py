"""A network over a query and its candidates that reads the query once."""

from collections.abc import Sequence

import tensorflow as tf

from models.layers.dropout import Dropout
from models.layers.mlp import MLP


@tf.keras.utils.register_keras_serializable("tandem")
class JointMLP(tf.keras.layers.Layer):
    """One number for each [query; candidate], by ReLU layers and a linear one.

    hidden = relu(W_q query + W_c candidate + b), then further layers; out = <w, hidden>

    The first layer's product is the sum of two, so that the query's is computed once for
    all of its candidates. The output has no bias: a model adds the one of its logit.

    Args:
        hidden: number of units of each ReLU layer, at least one layer.
        dropout: share of a layer's outputs dropped in training, in [0, 1).
    """

    def __init__(self, hidden: Sequence[int], dropout: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if not hidden:
            raise ValueError("`hidden` should have a layer or more. Received: none")
        self.hidden = tuple(hidden)
        self.rate = dropout
        first, *rest = self.hidden
        # The bias is a plain addition: TensorFlow 2.20's graph optimiser fuses a dense
        # layer's bias, the sum and the ReLU into a node it then cannot read.
        dense = tf.keras.layers.Dense
        self.query_dense = dense(first, use_bias=False, name="query_dense")
        self.candidate_dense = dense(first, use_bias=False, name="candidate_dense")
        self.bias = self.add_weight(name="bias", shape=(first,), initializer="zeros")
        self.make_layers(rest)
        self.dropout = Dropout(dropout)
        self.out = dense(1, use_bias=False, name="out")

    def call(
        self, query: tf.Tensor, candidates: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Returns [..., C].

        Args:
            query: [..., 1, D], or [..., C, D].
            candidates: [..., C, E].
            training: whether to drop units.
        """
        first = self.query_dense(query) + self.candidate_dense(candidates) + self.bias
        return tf.squeeze(self.out(self.bend(first, training)), axis=-1)

    def make_layers(self, rest: Sequence[int]) -> None:
        """Makes what `bend` takes.

        Args:
            rest: number of units of each layer but the first.
        """
        self.mlp = MLP(rest, self.rate, name="mlp")

    def bend(self, first: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns the last layer's units; `first` is [..., C, U] before activation."""
        hidden = self.dropout(tf.nn.relu(first), training=training)
        return self.mlp(hidden, training=training)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "hidden": self.hidden,
            "dropout": self.rate,
        }
