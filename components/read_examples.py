"""Reads ingested tf.Examples back as arrays, for the stages that judge a model."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf

from components.evaluate_retrieval import TestLog
from models.retrieval.evaluation import Interactions
from schemas.features import HISTORY, ITEM_ID, LABEL, TIMESTAMP, USER_ID

_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """The columns of ranking rows that a judge needs.

    Attributes:
        users, items: [n] bytes.
        labels: [n] float32.
        serialized: [n] bytes, the tf.Examples.
    """

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    serialized: np.ndarray


def split_files(uri: str, split: str) -> list[str]:
    """Returns the TFRecord files of one split of an Examples artifact, in order."""
    return sorted(tf.io.gfile.glob(f"{uri}/Split-{split}/*"))


def read_serialized(files: Sequence[str]) -> np.ndarray:
    """Returns [n] serialized tf.Examples of gzipped TFRecord files, in order."""
    rows = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    chunks = list(rows.batch(_BATCH).as_numpy_iterator())
    return np.concatenate(chunks) if chunks else np.zeros(0, object)


def read_labelled(uri: str, split: str) -> LabelledRows:
    """Reads one split of the `impressions`."""
    serialized = read_serialized(split_files(uri, split))
    spec = {
        USER_ID: tf.io.FixedLenFeature([], tf.string),
        ITEM_ID: tf.io.FixedLenFeature([], tf.string),
        LABEL: tf.io.FixedLenFeature([], tf.float32),
    }
    columns = tf.io.parse_example(tf.constant(serialized, tf.string), spec)
    return LabelledRows(
        columns[USER_ID].numpy(),
        columns[ITEM_ID].numpy(),
        columns[LABEL].numpy(),
        serialized,
    )


def read_test_log(uri: str, item_ids: Sequence[str]) -> tuple[TestLog, np.ndarray]:
    """Reads the `interactions` of all splits.

    Args:
        uri: of the Examples artifact.
        item_ids: the catalogue; row numbers of items refer to it.

    Returns:
        (log, serialized [N] tf.Examples in the same order).
    """
    by_split = {
        split: read_serialized(split_files(uri, split))
        for split in ("train", "eval", "test")
    }
    serialized = np.concatenate(list(by_split.values()))
    spec = {
        USER_ID: tf.io.FixedLenFeature([], tf.string),
        ITEM_ID: tf.io.FixedLenFeature([], tf.string),
        TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
        HISTORY: tf.io.RaggedFeature(tf.string),
    }
    columns = tf.io.parse_example(tf.constant(serialized, tf.string), spec)
    row_of = {item.encode(): row for row, item in enumerate(item_ids)}

    def catalogue_rows(ids: tf.Tensor) -> np.ndarray:
        return np.array([row_of.get(item, -1) for item in ids.numpy()], np.int64)

    items = catalogue_rows(columns[HISTORY].flat_values)
    owners = columns[HISTORY].value_rowids().numpy()
    known = items >= 0
    histories = scipy.sparse.coo_matrix(
        (np.ones(known.sum()), (owners[known], items[known])),
        shape=(len(serialized), len(item_ids)),
    ).tocsr()
    num_test = len(by_split["test"])
    is_test = np.arange(len(serialized)) >= len(serialized) - num_test
    interactions = Interactions(
        columns[USER_ID].numpy(),
        catalogue_rows(columns[ITEM_ID]),
        columns[TIMESTAMP].numpy(),
    )
    return TestLog(interactions, ~is_test, is_test, histories), serialized
