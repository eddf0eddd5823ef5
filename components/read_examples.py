"""Reads ingested tf.Examples back as arrays, for the stages that judge a model."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf

from components.item_times import UNKNOWN
from components.retrieval_log import TestLog
from models.ranking.labelled_rows import NO_POSITION
from models.retrieval.evaluation import Interactions
from schemas.features import HISTORY, ITEM_ID, LABEL, POSITION, TIMESTAMP, USER_ID

_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class JudgedRows:
    """The columns of ranking rows that a judge needs.

    Attributes:
        users, items: [n] bytes.
        labels: [n] float32, the rows' labels or what else a model predicts.
        timestamps: [n] int64, ms.
        positions: [n] int64, where the item was shown; `NO_POSITION` where that is not
            known.
        history_lengths: [n] int64, items in the row's history; [0] where they were not
            asked for, as are the examples.
        serialized: [n] bytes, the tf.Examples.
    """

    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray
    timestamps: np.ndarray
    positions: np.ndarray
    history_lengths: np.ndarray
    serialized: np.ndarray


def split_files(uri: str, split: str) -> list[str]:
    """Returns the TFRecord files of one split of an Examples artifact, in order."""
    return sorted(tf.io.gfile.glob(f"{uri}/Split-{split}/*"))


def read_serialized(files: Sequence[str]) -> np.ndarray:
    """Returns [n] serialized tf.Examples of gzipped TFRecord files, in order."""
    chunks = list(_batches(files))
    return np.concatenate(chunks) if chunks else np.zeros(0, object)


def _batches(files: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields the serialized tf.Examples of gzipped TFRecord files, some at a time."""
    rows = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    yield from rows.batch(_BATCH).as_numpy_iterator()


def read_labelled(
    uri: str, *splits: str, target: str = LABEL, in_full: bool = True
) -> JudgedRows:
    """Reads splits of the `impressions`, one after the other.

    Args:
        uri: of the Examples artifact.
        *splits: which.
        target: key of what is read as `labels`.
        in_full: whether to read histories and keep the tf.Examples too, which is most of
            the time and of the memory.
    """
    spec = {
        USER_ID: tf.io.FixedLenFeature([], tf.string),
        ITEM_ID: tf.io.FixedLenFeature([], tf.string),
        target: tf.io.FixedLenFeature([], tf.float32),
        TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
        POSITION: tf.io.FixedLenFeature([], tf.int64, NO_POSITION),
    }
    keys = list(spec)
    if in_full:
        spec[HISTORY] = tf.io.RaggedFeature(tf.string)
    files = [file for split in splits for file in split_files(uri, split)]
    # A batch without a row, so that there is one: it gives the columns their types.
    parts: list[list[np.ndarray]] = []
    for serialized in itertools.chain([np.zeros(0, object)], _batches(files)):
        row = tf.io.parse_example(tf.constant(serialized, tf.string), spec)
        lengths, kept = np.zeros(0, np.int64), serialized[:0]
        if in_full:
            lengths, kept = row[HISTORY].row_lengths().numpy(), serialized
        parts.append([*(row[key].numpy() for key in keys), lengths, kept])
    return JudgedRows(*map(np.concatenate, zip(*parts, strict=True)))


def read_test_log(
    uri: str,
    item_ids: Sequence[str],
    history_decay: float = 1.0,
    item_times: np.ndarray | None = None,
) -> tuple[TestLog, np.ndarray]:
    """Reads the `interactions` of all splits; of train and eval, three columns alone.

    Args:
        uri: of the Examples artifact.
        item_ids: the catalogue; row numbers of items refer to it.
        history_decay: weight of an event of a history against the next newer one's.
        item_times: [items] int64, ms, when each item came; where that is `UNKNOWN`, and
            without, the time of the item's first event.

    Returns:
        (log with every item as a candidate, [n] serialized tf.Examples of the test
        split). Users are numbers in order of appearance.
    """
    row_of = {item.encode(): row for row, item in enumerate(item_ids)}
    columns = _Columns(row_of)
    for split in ("train", "eval"):
        for batch in _batches(split_files(uri, split)):
            columns.add(batch)
    num_before = columns.num_rows
    tests = list(_batches(split_files(uri, "test")))
    for batch in tests:
        columns.add(batch)
    interactions = columns.interactions()
    is_test = np.arange(columns.num_rows) >= num_before
    serialized = np.concatenate(tests) if tests else np.zeros(0, object)
    histories, decayed = _histories(tests, row_of, num_before, history_decay)
    first = first_times(interactions, len(item_ids))
    if item_times is None:
        item_times = first
    log = TestLog(
        interactions,
        is_train=~is_test,
        is_test=is_test,
        histories=histories,
        decayed_histories=decayed,
        item_times=np.where(item_times == UNKNOWN, first, item_times),
        candidates=np.arange(len(item_ids)),
    )
    return log, serialized


def first_times(interactions: Interactions, num_items: int) -> np.ndarray:
    """Returns [items] int64, ms, of each item's first event; `UNKNOWN` without one."""
    known = interactions.items >= 0
    times = np.full(num_items, np.iinfo(np.int64).max)
    np.minimum.at(times, interactions.items[known], interactions.timestamps[known])
    return np.where(times == np.iinfo(np.int64).max, UNKNOWN, times)


class _Columns:
    """User, item and time of rows, as numbers, so that a long log fits in memory."""

    def __init__(self, row_of: dict[bytes, int]) -> None:
        self._row_of = row_of
        self._users: dict[bytes, int] = {}
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.num_rows = 0

    def add(self, serialized: np.ndarray) -> None:
        spec = {
            USER_ID: tf.io.FixedLenFeature([], tf.string),
            ITEM_ID: tf.io.FixedLenFeature([], tf.string),
            TIMESTAMP: tf.io.FixedLenFeature([], tf.int64),
        }
        columns = tf.io.parse_example(tf.constant(serialized, tf.string), spec)
        users = [
            self._users.setdefault(user, len(self._users))
            for user in columns[USER_ID].numpy()
        ]
        items = _rows_of(columns[ITEM_ID].numpy(), self._row_of)
        self._parts.append(
            (np.array(users, np.int64), items, columns[TIMESTAMP].numpy())
        )
        self.num_rows += len(users)

    def interactions(self) -> Interactions:
        nothing = (np.zeros(0, np.int64),) * 3
        parts = zip(*(self._parts or [nothing]), strict=True)
        return Interactions(*(np.concatenate(part) for part in parts))


def _histories(
    tests: Sequence[np.ndarray],
    row_of: dict[bytes, int],
    num_before: int,
    decay: float,
) -> tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]:
    """Returns [N, items] counts, and the same with weights, of the test rows' histories.

    Args:
        tests: batches of serialized test rows.
        row_of: the catalogue.
        num_before: rows before the first test row, which are left empty.
        decay: weight of an event against the next newer one's.
    """
    spec = {HISTORY: tf.io.RaggedFeature(tf.string)}
    places, weights = [np.zeros((2, 0), np.int64)], [np.zeros(0)]
    start = num_before
    for batch in tests:
        history = tf.io.parse_example(tf.constant(batch, tf.string), spec)[HISTORY]
        items = _rows_of(history.flat_values.numpy(), row_of)
        owners = history.value_rowids().numpy()
        num_newer = history.row_splits.numpy()[owners + 1] - 1 - np.arange(len(items))
        known = items >= 0
        places.append(np.stack([owners[known] + start, items[known]]))
        weights.append(decay ** num_newer[known].astype(np.float64))
        start += len(batch)
    owners, items = np.concatenate(places, axis=1)
    shape = (start, len(row_of))

    def weighted(values: np.ndarray) -> scipy.sparse.csr_matrix:
        return scipy.sparse.coo_matrix((values, (owners, items)), shape=shape).tocsr()

    return weighted(np.ones(len(items))), weighted(np.concatenate(weights))


def _rows_of(ids: np.ndarray, row_of: dict[bytes, int]) -> np.ndarray:
    return np.array([row_of.get(item, -1) for item in ids], np.int64)
