"""Exact and approximate search for the items of the largest inner product.

Both indexes are `tf.Module`s with one interface, so a served graph holds either.
Filtering is deliberately absent: a caller asks for as many more rows as it will drop.
"""

from typing import Protocol

import numpy as np
import tensorflow as tf

from models.index_settings import IndexKind, IndexSettings
from models.scann_ops import register_scann_ops

__all__ = [
    "ExactIndex",
    "Index",
    "IndexKind",
    "IndexSettings",
    "ScannIndex",
    "build_index",
    "recall_against_exact",
]

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


class ExactIndex(tf.Module):
    """Compares a query with every item; stock TensorFlow ops only.

    Args:
        embeddings: [N, D] float32, finite, N >= 1. A `tf.Variable` is shared, not
            copied.
    """

    is_exact = True

    def __init__(self, embeddings: np.ndarray | tf.Variable, name: str | None = None):
        super().__init__(name=name)
        _check_embeddings(embeddings)
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
        return _padded(scores, rows, k)


class ScannIndex(tf.Module):
    """Searches quantised vectors by ScaNN, then scores the best of them exactly.

    A SavedModel that holds it is written with
    `tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])`, and a process that
    loads one calls `models.scann_ops.register_scann_ops` before.

    Args:
        embeddings: [N, D] float32, finite, N >= 1.
        settings: how to partition, quantise and reorder.

    References:
        [1] Guo et al. Accelerating Large-Scale Inference with Anisotropic Vector
            Quantization. ICML 2020.
    """

    is_exact = False

    def __init__(
        self,
        embeddings: np.ndarray,
        settings: IndexSettings | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        _check_embeddings(embeddings)
        register_scann_ops()
        self._settings = settings or IndexSettings()
        searcher = _build_searcher(np.asarray(embeddings, np.float32), self._settings)
        self._state = searcher.serialize_to_module()

    @property
    def embeddings(self) -> tf.Variable:
        """The vectors themselves, float32 [N, D]; an `ExactIndex` can share them."""
        return self._state.dataset

    @property
    def num_items(self) -> int:
        return int(self.embeddings.shape[0])

    def search(self, queries: tf.Tensor, k: tf.Tensor | int) -> Result:
        """See `Index.search`; the scores are exact, the choice of rows is not."""
        from scann.scann_ops.py import scann_ops

        k = tf.maximum(tf.cast(k, tf.int32), 0)
        # ScaNN takes a count of 0 for "as configured": ask for one and cut it off.
        fetched = tf.clip_by_value(k, 1, self.num_items)
        reordered = tf.clip_by_value(
            fetched * self._settings.reordered_per_result,
            tf.minimum(self._settings.min_reordered, self.num_items),
            self.num_items,
        )
        searcher = scann_ops.searcher_from_module(self._state)
        rows, scores = searcher.search_batched(
            queries, final_num_neighbors=fetched, pre_reorder_num_neighbors=reordered
        )
        # ScaNN fills up a row for which it found too little by item 0 and a score NaN.
        is_missing = tf.math.is_nan(scores)
        scores = tf.where(is_missing, float("-inf"), scores)
        rows = tf.where(is_missing, -1, rows)
        return _padded(scores[:, :k], rows[:, :k], k)


def build_index(
    embeddings: np.ndarray, settings: IndexSettings | None = None
) -> ExactIndex | ScannIndex:
    """Builds the index that the settings name, or that the catalogue's size suggests.

    Args:
        embeddings: [N, D] float32, finite, N >= 1.
        settings: None takes the defaults.

    Returns:
        index: searches the rows of `embeddings`.
    """
    settings = settings or IndexSettings()
    kind = settings.kind
    if kind is IndexKind.AUTO:
        is_small = len(embeddings) < settings.exact_below
        kind = IndexKind.EXACT if is_small else IndexKind.SCANN
    if kind is IndexKind.EXACT:
        return ExactIndex(embeddings)
    return ScannIndex(embeddings, settings)


def recall_against_exact(
    index: Index, exact: Index, queries: np.ndarray, k: int, batch_size: int = 256
) -> float:
    """Returns the share of the exact top k that an index finds.

    Args:
        index: the index to judge.
        exact: one whose `is_exact` is true, over the same rows.
        queries: [Q, D] float32, Q >= 1.
        k: >= 1; where k > N, the share of all N items.
        batch_size: queries searched at a time.

    Returns:
        recall: in [0, 1], the mean over queries.

    Raises:
        ValueError: if `exact` is approximate or `queries` is empty.
    """
    if not exact.is_exact:
        raise ValueError(
            "`exact` should be an index whose `is_exact` is true. "
            f"Received: {type(exact).__name__}; pass an ExactIndex of the same rows."
        )
    if len(queries) < 1 or k < 1:
        raise ValueError(
            "`queries` should hold at least one row and `k` should be >= 1. "
            f"Received: {len(queries)} queries, k={k}"
        )
    found = wanted = 0
    for start in range(0, len(queries), batch_size):
        batch = tf.constant(queries[start : start + batch_size], tf.float32)
        truth = exact.search(batch, k)[1].numpy()
        answer = index.search(batch, k)[1].numpy()
        for true_rows, rows in zip(truth, answer, strict=True):
            true_rows = true_rows[true_rows >= 0]
            found += np.isin(true_rows, rows).sum()
            wanted += len(true_rows)
    return float(found / wanted)


def _build_searcher(embeddings: np.ndarray, settings: IndexSettings):
    from scann.scann_ops.py import scann_ops

    num_items = len(embeddings)
    builder = scann_ops.builder(
        embeddings, min(settings.min_reordered, num_items), "dot_product"
    )
    if num_items > settings.tree_above:
        num_leaves = min(settings.num_leaves or round(num_items**0.5), num_items)
        builder = builder.tree(
            num_leaves=num_leaves,
            num_leaves_to_search=max(1, round(num_leaves * settings.leaves_to_search)),
            training_sample_size=min(num_items, 100 * num_leaves),
        )
    return (
        builder.score_ah(
            settings.dimensions_per_block,
            anisotropic_quantization_threshold=settings.anisotropic_threshold,
            training_sample_size=min(num_items, 100_000),
        )
        .reorder(min(settings.min_reordered, num_items))
        .build()
    )


def _check_embeddings(embeddings: np.ndarray | tf.Variable) -> None:
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


def _padded(scores: tf.Tensor, rows: tf.Tensor, k: tf.Tensor) -> Result:
    missing = tf.maximum(k - tf.shape(rows)[1], 0)
    padding = [[0, 0], [0, missing]]
    return (
        tf.pad(scores, padding, constant_values=float("-inf")),
        tf.pad(rows, padding, constant_values=-1),
    )
