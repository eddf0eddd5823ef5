"""Recurrent and attention summaries of a history: what the order of items tells.

Both take a history oldest first with ids of 0 as padding on whichever side, give one
vector for a row, and zeros for a row without items. Weighted means are `history.py`'s.
"""

import tensorflow as tf

from models.layers.history import newest_vector, recency_rank


@tf.keras.utils.register_keras_serializable("tandem")
class HistoryAttention(tf.keras.layers.Layer):
    """Causal self-attention over a history, read at its newest item.

    x[t]  = embeddings[t] + position[recency rank of t]
    block: y[t] = x[t] + sum_{s <= t} softmax_s(q(x[t]) . k(x[s]) / sqrt(K)) v(x[s])
           x[t] = y[t] + w_2 gelu(w_1 y[t])      each input layer-normalised
    out   = w x[newest]

    Only the newest item's vector is asked for, so the last block works it out for that
    item alone, and projects the query and the mean instead of each item: with one block,
    no product of matrices grows with the length of the history but the attention itself.
    `w` starts at 0, so that a tower which adds the output starts without.

    Positions count from the newest item, so where the padding stands changes nothing.

    Args:
        history_length: number of positions with a vector of their own.
        num_blocks: attention blocks, >= 1.

    References:
        [1] Kang, McAuley. Self-Attentive Sequential Recommendation. ICDM 2018.
            Section III, with the normalisation before each sublayer.
    """

    def __init__(self, history_length: int, num_blocks: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        for name, value in (
            ("history_length", history_length),
            ("num_blocks", num_blocks),
        ):
            if value < 1:
                raise ValueError(f"`{name}` should be >= 1. Received: {name}={value}")
        self.history_length = history_length
        self.num_blocks = num_blocks

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        self.positions = self.add_weight(
            "positions", (self.history_length, dim), initializer="uniform"
        )
        self.blocks = [_Block(dim, name=f"block_{i}") for i in range(self.num_blocks)]
        self.out = tf.keras.layers.Dense(dim, kernel_initializer="zeros", name="out")
        super().build(input_shape)

    def call(self, embeddings: tf.Tensor, history_ids: tf.Tensor) -> tf.Tensor:
        """Returns the summaries.

        Args:
            embeddings: [B, T, K] float; finite, and not looked at, where an id is 0.
            history_ids: [B, T] integer, oldest first, 0 pads.

        Returns:
            [B, K]; zeros for an empty history.
        """
        rank = recency_rank(history_ids)
        is_item = rank >= 0
        place = tf.clip_by_value(rank, 0, self.history_length - 1)
        states = embeddings + tf.gather(self.positions, place)
        for block in self.blocks[:-1]:
            # [B, T, T]: an item looks at itself and at older ones.
            is_older = rank[:, tf.newaxis, :] >= rank[:, :, tf.newaxis]
            states = block(states, states, is_older & is_item[:, tf.newaxis, :])
        newest = newest_vector(states, history_ids)[:, tf.newaxis]  # [B, 1, K]
        state = self.blocks[-1](newest, states, is_item[:, tf.newaxis, :])
        has_items = tf.cast(tf.reduce_any(is_item, axis=1), states.dtype)
        return self.out(tf.squeeze(state, 1)) * has_items[:, tf.newaxis]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "history_length": self.history_length,
            "num_blocks": self.num_blocks,
        }


class _Block(tf.keras.layers.Layer):
    """One block: attention, then a feed-forward layer, both added to their input."""

    def __init__(self, dim: int, **kwargs) -> None:
        super().__init__(**kwargs)
        dense = tf.keras.layers.Dense
        self._scale = dim**-0.5
        self._query = dense(dim, name="query")
        # A bias of the keys would add the same to each logit of a row.
        self._key = dense(dim, use_bias=False, name="key")
        self._value = dense(dim, name="value")
        self._widen = dense(dim, activation="gelu", name="widen")
        self._narrow = dense(dim, name="narrow")
        norm = tf.keras.layers.LayerNormalization
        self._before_attention = norm(epsilon=1e-6, name="before_attention")
        self._before_dense = norm(epsilon=1e-6, name="before_dense")

    def build(self, input_shape: tf.TensorShape) -> None:
        with tf.name_scope(self._key.name):  # may be read without being called
            self._key.build(input_shape)
        super().build(input_shape)

    def call(
        self, queries: tf.Tensor, states: tf.Tensor, is_seen: tf.Tensor
    ) -> tf.Tensor:
        """[B, Q, K], [B, T, K] and bool [B, Q or 1, T] -> [B, Q, K]."""
        asked = self._query(self._before_attention(queries))
        if queries.shape[1] == 1:
            values = self._value(self._mean_for_one(asked, states, is_seen))
        else:
            seen = self._before_attention(states)
            logits = tf.matmul(asked, self._key(seen), transpose_b=True)
            values = tf.matmul(self._weights(logits, is_seen), self._value(seen))
        attended = queries + values
        return attended + self._narrow(self._widen(self._before_dense(attended)))

    def _mean_for_one(
        self, asked: tf.Tensor, states: tf.Tensor, is_seen: tf.Tensor
    ) -> tf.Tensor:
        """Returns [B, 1, K]: the normalised states' mean by the weights of one query.

        With one query all that is linear can be done to it, or to the mean, instead of
        to T states: the key's product, as <q, W x> = <W' q, x>, and the normalisation
        n(x) = gamma (x - m) / s + beta, of which beta moves all logits alike.
        """
        norm = self._before_attention
        asked = tf.matmul(asked, self._key.kernel, transpose_b=True) * norm.gamma
        mean = tf.reduce_mean(states, axis=-1)[:, tf.newaxis]  # [B, 1, T]
        square = tf.reduce_mean(tf.square(states), axis=-1)[:, tf.newaxis]
        scale = tf.math.rsqrt(tf.nn.relu(square - tf.square(mean)) + norm.epsilon)
        product = tf.matmul(asked, states, transpose_b=True)
        logits = scale * (product - mean * tf.reduce_sum(asked, -1, keepdims=True))
        share = self._weights(logits, is_seen) * scale
        centre = tf.reduce_sum(share * mean, axis=-1, keepdims=True)
        return norm.gamma * (tf.matmul(share, states) - centre) + norm.beta

    def _weights(self, logits: tf.Tensor, is_seen: tf.Tensor) -> tf.Tensor:
        # A finite floor: a row that sees nothing gets some weights, not NaN.
        floor = logits.dtype.min / 2
        return tf.nn.softmax(tf.where(is_seen, logits * self._scale, floor))


@tf.keras.utils.register_keras_serializable("tandem")
class HistoryGru(tf.keras.layers.Layer):
    """The last state of a GRU over a history, projected.

    Padding leaves the state as it is, wherever it stands. The projection starts at 0,
    so that a tower which adds the output starts without.

    References:
        [1] Cho et al. Learning Phrase Representations using RNN Encoder-Decoder for
            Statistical Machine Translation. EMNLP 2014. Eq. (5) to (8).
    """

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        self.gru = tf.keras.layers.GRU(dim, reset_after=False, name="gru")
        self.out = tf.keras.layers.Dense(
            dim, use_bias=False, kernel_initializer="zeros", name="out"
        )
        super().build(input_shape)

    def call(self, embeddings: tf.Tensor, history_ids: tf.Tensor) -> tf.Tensor:
        """Returns [B, K]; arguments as of `HistoryAttention.call`."""
        is_item = tf.not_equal(history_ids, 0)
        # Keras turns an all-padding row into garbage on some paths; its state is 0.
        state = self.gru(embeddings, mask=is_item)
        has_items = tf.cast(tf.reduce_any(is_item, axis=1), state.dtype)
        return self.out(state * has_items[:, tf.newaxis])
