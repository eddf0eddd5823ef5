"""What every index offers, and what all of them check and pad alike."""

from typing import Protocol

import numpy as np
import tensorflow as tf

Result = tuple[tf.Tensor, tf.Tensor]


class Index(Protocol):
    """What every index offers."""

    @property
    def is_exact(self) -> bool:
        """Whether `search` always returns the true nearest rows."""

    @property
    def num_items(self) -> int:
        """The number of rows, N."""

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> Result:
        """Finds the rows of the largest inner product with each query.

        Args:
            queries: [B, D] float32.
            k: [] int32, any number; it may depend on the request.

        Returns:
            scores: [B, k] float32 inner products, descending.
            rows: [B, k] int32, distinct. Where there are fewer than k (k > N, or an
                approximate search that found fewer), score -inf and row -1, at the end.
        """

    def exact(self) -> "Index":
        """Returns an exact index of the same rows, which shares the vectors."""


def check_embeddings(embeddings: np.ndarray | tf.Variable) -> None:
    """Raises ValueError unless `embeddings` is [N, D], N and D >= 1, and finite."""
    values = np.asarray(embeddings)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(
            "`embeddings` should have shape [N, D], N and D >= 1. "
            f"Received: shape={values.shape}"
        )
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise ValueError(
            f"`embeddings` should be finite. Received: NaN or infinity in row {row}; "
            "look for a diverged loss."
        )


def padded(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor) -> Result:
    """Fills both [B, up to k] up to k columns with what stands for a missing row."""
    missing = tf.maximum(k - tf.shape(rows)[1], 0)
    padding = [[0, 0], [0, missing]]
    return (
        tf.pad(scores, padding, constant_values=float("-inf")),
        tf.pad(rows, padding, constant_values=-1),
    )
