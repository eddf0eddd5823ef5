"""Exact search: a query compared with every item, in stock TensorFlow ops."""

import numpy as np
import tensorflow as tf

from models.index.interface import Result, check_embeddings, padded


class ExactIndex(tf.Module):
    """Compares a query with every item; stock TensorFlow ops only.

    Args:
        embeddings: [N, D] float32, finite, N >= 1. A `tf.Variable` is shared, not
            copied.
    """

    is_exact = True

    def __init__(self, embeddings: np.ndarray | tf.Variable, name: str | None = None):
        super().__init__(name=name)
        check_embeddings(embeddings)
        if not isinstance(embeddings, tf.Variable):
            embeddings = tf.Variable(
                embeddings, trainable=False, dtype=tf.float32, name="embeddings"
            )
        self.embeddings = embeddings

    @property
    def num_items(self) -> int:
        return int(self.embeddings.shape[0])

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> Result:
        """See `Index.search`; of equal scores the smaller row comes first."""
        k = tf.maximum(tf.cast(k, tf.int32), 0)
        products = tf.matmul(queries, self.embeddings, transpose_b=True)  # [B, N]
        scores, rows = tf.math.top_k(products, tf.minimum(k, self.num_items))
        return padded(scores, rows, k)

    def exact(self) -> "ExactIndex":
        """See `Index.exact`; the index itself."""
        return self
