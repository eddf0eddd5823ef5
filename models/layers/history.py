"""Summaries of a list of ids by one vector: the mean, a weighted mean, the last item.

Ids of 0 pad, on whichever side; the newest id is the last that is not 0. An empty list
is summarised by zeros. Recurrent and attention summaries are deliberately absent.
"""

import tensorflow as tf


def recency_rank(history_ids: tf.Tensor) -> tf.Tensor:
    """Returns how many ids of the row are newer than each id.

    Args:
        history_ids: [B, T] integer, oldest first, 0 pads.

    Returns:
        rank: [B, T] int32; 0 for the newest, -1 for padding.
    """
    is_item = tf.not_equal(history_ids, 0)
    newer = tf.cumsum(tf.cast(is_item, tf.int32), axis=-1, exclusive=True, reverse=True)
    return tf.where(is_item, newer, -1)


def masked_mean(embeddings: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns the mean vector of the ids that are not 0.

    Args:
        embeddings: [..., T, K] float.
        ids: [..., T] integer, 0 pads.

    Returns:
        mean: [..., K]; zeros where every id is 0.
    """
    mask = tf.cast(tf.not_equal(ids, 0), embeddings.dtype)[..., tf.newaxis]
    total = tf.reduce_sum(embeddings * mask, axis=-2)
    return tf.math.divide_no_nan(total, tf.reduce_sum(mask, axis=-2))


def newest_vector(embeddings: tf.Tensor, history_ids: tf.Tensor) -> tf.Tensor:
    """Returns the vector of the newest id of each row.

    Args:
        embeddings: [B, T, K] float, finite.
        history_ids: [B, T] integer, oldest first, 0 pads.

    Returns:
        newest: [B, K]; zeros for an empty history.
    """
    is_newest = tf.equal(recency_rank(history_ids), 0)
    # A product, whose gradient is dense, instead of a gather, whose gradient scatters.
    choice = tf.cast(is_newest, embeddings.dtype)[:, tf.newaxis]  # [B, 1, T]
    return tf.squeeze(tf.matmul(choice, embeddings), axis=1)


@tf.keras.utils.register_keras_serializable("tandem")
class MaskedMean(tf.keras.layers.Layer):
    """`masked_mean` as a layer."""

    def call(self, embeddings: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        return masked_mean(embeddings, ids)


@tf.keras.utils.register_keras_serializable("tandem")
class RecencyWeightedMean(tf.keras.layers.Layer):
    """Mean of a history with one learned weight for each recency rank.

    weight[b, t] = softmax over the row's items of scores[rank[b, t]]
    mean[b]      = sum_t weight[b, t] * embeddings[b, t]

    The scores start at 0, which is the plain mean. They belong to the rank, not to the
    column, so where the padding stands and how long it is change nothing.

    Args:
        history_length: number of ranks with a score of their own; older items share
            the last one.
    """

    def __init__(self, history_length: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if history_length < 1:
            raise ValueError(
                "`history_length` should be >= 1. "
                f"Received: history_length={history_length}"
            )
        self.history_length = history_length
        self.scores = self.add_weight(
            name="scores", shape=(history_length,), initializer="zeros"
        )

    def call(self, embeddings: tf.Tensor, history_ids: tf.Tensor) -> tf.Tensor:
        """Returns the weighted mean.

        Args:
            embeddings: [B, T, K] float; finite, and not looked at, where an id is 0.
            history_ids: [B, T] integer, oldest first, 0 pads.

        Returns:
            mean: [B, K]; zeros for an empty history.
        """
        rank = recency_rank(history_ids)
        is_item = rank >= 0
        scores = tf.gather(
            tf.cast(self.scores, embeddings.dtype),
            tf.clip_by_value(rank, 0, self.history_length - 1),
        )  # [B, T]
        largest = tf.reduce_max(
            tf.where(is_item, scores, scores.dtype.min), axis=-1, keepdims=True
        )
        # The inner `where` keeps a row without items from computing exp(inf), whose
        # gradient is NaN even though the outer one drops it.
        weight = tf.where(
            is_item, tf.exp(tf.where(is_item, scores - largest, 0.0)), 0.0
        )
        weight = tf.math.divide_no_nan(weight, tf.reduce_sum(weight, -1, keepdims=True))
        # A product of matrices instead of one of [B, T, K] tensors: a third of the time.
        return tf.squeeze(tf.matmul(weight[:, tf.newaxis], embeddings), axis=1)

    def get_config(self) -> dict:
        return {**super().get_config(), "history_length": self.history_length}
