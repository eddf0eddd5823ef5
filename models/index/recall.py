"""How much of the exact answer an index finds."""

import numpy as np
import tensorflow as tf

from models.index.interface import Index

_BATCH = 256


def recall_against_exact(
    index: Index, exact: Index, queries: np.ndarray, k: int, batch_size: int = _BATCH
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
    truth = true_rows(exact, queries, k, batch_size)
    batches = [
        index.search(tf.constant(batch, tf.float32), k)[1].numpy()
        for batch in in_batches(queries, batch_size)
    ]
    return float(recalls(np.concatenate(batches), truth).mean())


def true_rows(
    exact: Index, queries: np.ndarray, k: int, batch_size: int = _BATCH
) -> np.ndarray:
    """Returns the exact answers, int32 [Q, k], -1 beyond N.

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
    return np.concatenate(
        [
            exact.search(tf.constant(batch, tf.float32), k)[1].numpy()
            for batch in in_batches(queries, batch_size)
        ]
    )


def recalls(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the share of each row of `truth` that `found` holds, float [Q].

    Args:
        found: [Q, any] rows; the order is irrelevant.
        truth: [Q, k] rows; -1 is not something to find.
    """
    wanted = (truth >= 0).sum(axis=1)
    hits = [
        np.isin(true, rows).sum() - np.isin(true[true < 0], rows).sum()
        for true, rows in zip(truth, found, strict=True)
    ]
    return np.asarray(hits) / wanted


def in_batches(queries: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Returns `queries` in slices of `batch_size`, the last one shorter."""
    return [
        queries[start : start + batch_size]
        for start in range(0, len(queries), batch_size)
    ]
