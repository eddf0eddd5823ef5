"""Attention over the older events of a history, then over that and the newer ones."""

import tensorflow as tf

from models.layers.history import recency_rank
from models.layers.target_attention import masked_softmax


@tf.keras.utils.register_keras_serializable("tandem")
class HierarchicalAttention(tf.keras.layers.Layer):
    """A user's long-term and then hybrid representation.

    long:   alpha = softmax_j(u . relu(W_1 v_j + b_1)) over the older events
            u_long = sum_j alpha_j v_j
    hybrid: beta = softmax_j(u . relu(W_2 x_j + b_2)) over x = u_long and the newest
            u_hybrid = beta_0 u_long + sum_j beta_j v_j

    Where there are no older events, there is no u_long to attend to.

    Args:
        num_newest: how many events are the newest; all others are the older ones.

    References:
        [1] Ying et al. Sequential Recommender System based on Hierarchical Attention
            Network. IJCAI 2018. Eq. (1) to (6).
    """

    def __init__(self, num_newest: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if num_newest < 1:
            raise ValueError(
                f"`num_newest` should be >= 1. Received: num_newest={num_newest}"
            )
        self.num_newest = num_newest

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        self.long_key, self.hybrid_key = (
            tf.keras.layers.Dense(dim, activation="relu", name=name)
            for name in ("long_key", "hybrid_key")
        )
        super().build(input_shape)

    def call(
        self, user: tf.Tensor, events: tf.Tensor, is_event: tf.Tensor
    ) -> tf.Tensor:
        """Returns u_hybrid, [B, E]; zeros for an empty history.

        Args:
            user: u, [B, E] float.
            events: v, [B, T, E] float, oldest first.
            is_event: bool [B, T].
        """
        rank = recency_rank(tf.cast(is_event, tf.int32))
        is_newest = (rank >= 0) & (rank < self.num_newest)
        is_older = rank >= self.num_newest
        alpha = masked_softmax(_logits(user, self.long_key(events)), is_older)
        long = _weighted_sum(alpha, events)
        # u_long stands in front of the events.
        parts = tf.concat([long[:, tf.newaxis], events], axis=1)
        has_older = tf.reduce_any(is_older, axis=1, keepdims=True)
        is_part = tf.concat([has_older, is_newest], axis=1)
        beta = masked_softmax(_logits(user, self.hybrid_key(parts)), is_part)
        return _weighted_sum(beta, parts)

    def get_config(self) -> dict:
        return {**super().get_config(), "num_newest": self.num_newest}


def _logits(user: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    return tf.squeeze(tf.matmul(keys, user[..., tf.newaxis]), axis=-1)  # [B, T]


def _weighted_sum(weights: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    return tf.squeeze(tf.matmul(weights[:, tf.newaxis], vectors), axis=1)  # [B, E]
