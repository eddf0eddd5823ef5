"""How the trainers read ingested rows: shuffled, parsed and transformed in batches."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.preprocessing import TransformGraph
from schemas.features import ITEM_ID, LABEL, REWARD, TIMESTAMP

Batch = tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]
_SHUFFLED_ROWS = 1_000_000
_PARSED_AT_ONCE = 4096


def transformed_batches(
    file_patterns: list[str],
    transform: TransformGraph,
    batch_size: int,
    shuffle_seed: int | None = None,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Reads tf.Examples and applies the transform graph.

    Rows are shuffled as serialized bytes, which is cheap, and parsed a batch at a time.

    Args:
        file_patterns: gzipped TFRecord files of one or more splits.
        transform: the analysed transform, which also sits in the served models.
        batch_size: rows a batch.
        shuffle_seed: shuffles differently in every epoch, repeatably; None keeps order.
        drop_remainder: drops a last batch that is not full.

    Returns:
        Dataset of (features, row): `features` holds what `preprocessing_fn` returns,
        `row` the untransformed `item_id`, `reward` and `label`, each [B].

    Raises:
        FileNotFoundError: if no file matches.
    """
    rows = serialized_rows(file_patterns).cache()
    if shuffle_seed is not None:
        rows = rows.shuffle(_SHUFFLED_ROWS, seed=shuffle_seed)
    return parsed_batches(rows, transform, batch_size, drop_remainder)


def batches_by_span(
    file_patterns: list[str],
    transform: TransformGraph,
    batch_size: int,
    begins: Sequence[int],
    epochs: int,
    shuffle_seed: int,
) -> tf.data.Dataset:
    """Reads the newest rows, span by span, the oldest first.

    Rows are shuffled within their span, and a span's epochs come before the next span;
    a batch may hold the end of one and the beginning of the next.

    Args:
        file_patterns: as in `transformed_batches`.
        transform: the analysed transform.
        batch_size: rows a batch.
        begins: ms; when each span begins, ascending. Rows before the first are left out.
        epochs: how often each span is read.
        shuffle_seed: as in `transformed_batches`.

    Returns:
        Dataset as of `transformed_batches`.
    """
    serialized = serialized_rows(file_patterns)
    ends = [*begins[1:], tf.int64.max]
    spans = [
        _rows_between(serialized, begin, end)
        .shuffle(_SHUFFLED_ROWS, seed=shuffle_seed)
        .repeat(epochs)
        for begin, end in zip(begins, ends, strict=True)
    ]
    rows = functools.reduce(tf.data.Dataset.concatenate, spans)
    return parsed_batches(rows, transform, batch_size)


def count_rows(file_patterns: list[str]) -> int:
    """Returns how many rows the files hold."""
    batches = serialized_rows(file_patterns).batch(_PARSED_AT_ONCE).map(tf.size)
    return sum(map(int, batches.as_numpy_iterator()))


def row_timestamps(file_patterns: list[str]) -> np.ndarray:
    """Returns [rows] int64, the timestamp of each row in ms."""
    batches = serialized_rows(file_patterns).batch(_PARSED_AT_ONCE).map(_timestamps)
    return np.concatenate([np.zeros(0, np.int64), *batches.as_numpy_iterator()])


def serialized_rows(file_patterns: list[str]) -> tf.data.Dataset:
    """Returns the tf.Examples in the files, in order.

    Raises:
        FileNotFoundError: if no file matches.
    """
    files = sorted(
        path for pattern in file_patterns for path in tf.io.gfile.glob(pattern)
    )
    if not files:
        raise FileNotFoundError(
            f"No training files match {file_patterns}; was the split empty?"
        )
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def parsed_batches(
    rows: tf.data.Dataset,
    transform: TransformGraph,
    batch_size: int,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Returns the Dataset of `transformed_batches` from serialized rows."""

    def parse(serialized: tf.Tensor) -> Batch:
        raw = tf.io.parse_example(serialized, transform.raw_spec)
        row = {key: raw[key] for key in (ITEM_ID, REWARD, LABEL)}
        return transform(raw), row

    return (
        rows.batch(batch_size, drop_remainder=drop_remainder)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def _rows_between(rows: tf.data.Dataset, begin: int, end: int) -> tf.data.Dataset:
    def kept(serialized: tf.Tensor) -> tf.Tensor:
        at = _timestamps(serialized)
        return tf.boolean_mask(serialized, (at >= begin) & (at < end))

    return rows.batch(_PARSED_AT_ONCE).map(kept).unbatch()


def _timestamps(serialized: tf.Tensor) -> tf.Tensor:
    spec = {TIMESTAMP: tf.io.FixedLenFeature([], tf.int64)}
    return tf.io.parse_example(serialized, spec)[TIMESTAMP]
