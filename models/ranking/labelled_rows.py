"""How the ranking trainer reads labelled rows: by epoch, each shuffled its own way."""

import functools
import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from models.preprocessing import TransformGraph
from models.ranking.ranker import Tensors
from models.ranking.settings import RankingSettings, Target
from models.training_input import serialized_rows
from schemas.features import LABEL, POSITION, REWARD, TIMESTAMP

NO_POSITION = -1
_SHUFFLED_ROWS = 1_000_000
_READ_AT_ONCE = 4096


class LabelledRows:
    """The rows of one or more splits as batches of (features, target [B]).

    The features are what `preprocessing_fn` returns and, with `position_bias`, `position`
    (int64 [B], `NO_POSITION` where the log has none).

    Args:
        file_patterns: gzipped TFRecord files.
        transform: the analysed transform.
        settings: what is learnt, and by which batches.
        after: ms; rows of that moment or earlier are left out. None reads all.

    Attributes:
        num_rows, num_batches: of one pass.
        newest: ms, when the newest row happened; `after`, or 0, where there is none.

    Raises:
        FileNotFoundError: if no file matches.
    """

    def __init__(
        self,
        file_patterns: list[str],
        transform: TransformGraph,
        settings: RankingSettings,
        after: int | None = None,
    ) -> None:
        rows = serialized_rows(file_patterns)
        if after is not None:
            rows = rows.batch(_READ_AT_ONCE).map(_newer_than(after)).unbatch()
        self._rows = rows.cache()
        self._transform = transform
        self._settings = settings
        self.num_rows, self.newest = 0, after or 0
        # Reads through the cache, which is then full.
        for times in self._rows.batch(_READ_AT_ONCE).map(_times).as_numpy_iterator():
            self.num_rows += len(times)
            self.newest = max(self.newest, int(times.max()))
        self.num_batches = math.ceil(self.num_rows / settings.batch_size)

    def in_order(self) -> tf.data.Dataset:
        """Returns one pass over the rows as they stand."""
        return self._parsed(self._rows.batch(self._settings.batch_size))

    def epochs(self, first: int) -> tf.data.Dataset:
        """Returns the epochs from the given one to the last, one behind the other.

        An epoch's order depends on its number and the seed only, so that training which
        goes on from epoch k sees what it would have seen had it not been stopped.
        """
        epochs = [
            self._rows.shuffle(_SHUFFLED_ROWS, self._settings.seed + number).batch(
                self._settings.batch_size
            )
            for number in range(first, self._settings.max_epochs)
        ]
        return self._parsed(functools.reduce(tf.data.Dataset.concatenate, epochs))

    def by_time(self) -> tf.data.Dataset:
        """Returns one pass over the rows, the earliest first; it holds all of them."""
        chunks = list(self._rows.batch(_READ_AT_ONCE).as_numpy_iterator())
        rows = np.concatenate([np.zeros(0, object), *chunks])
        times = [_times(chunk).numpy() for chunk in chunks]
        order = np.argsort(
            np.concatenate([np.zeros(0, np.int64), *times]), kind="stable"
        )
        batches = tf.data.Dataset.from_tensor_slices(
            tf.constant(rows[order], tf.string)
        )
        return self._parsed(batches.batch(self._settings.batch_size))

    def _parsed(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        return batches.map(
            self._parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        ).prefetch(tf.data.AUTOTUNE)

    def _parse(self, serialized: tf.Tensor) -> tuple[Tensors, tf.Tensor]:
        raw = tf.io.parse_example(serialized, self._transform.raw_spec)
        features = self._transform(raw)
        if self._settings.position_bias:
            features = features | {POSITION: _positions(raw)}
        if self._settings.target is Target.LABEL:
            return features, raw[LABEL]
        return features, _shares(raw[REWARD])


def _times(serialized: tf.Tensor) -> tf.Tensor:
    spec = {TIMESTAMP: tf.io.FixedLenFeature([], tf.int64, default_value=0)}
    return tf.io.parse_example(serialized, spec)[TIMESTAMP]


def _newer_than(after: int) -> Callable[[tf.Tensor], tf.Tensor]:
    return lambda rows: tf.boolean_mask(rows, _times(rows) > after)


def _positions(raw: dict) -> tf.Tensor:
    """Returns int64 [B], of a log whose schema may have no positions at all."""
    positions = raw.get(POSITION)
    if positions is None:
        return tf.fill(tf.shape(raw[LABEL]), tf.constant(NO_POSITION, tf.int64))
    if isinstance(positions, tf.SparseTensor):
        rows, width = tf.unstack(positions.dense_shape)
        wide = tf.SparseTensor(
            positions.indices, positions.values, [rows, tf.maximum(width, 1)]
        )
        positions = tf.sparse.to_dense(wide, default_value=NO_POSITION)[:, 0]
    return positions


def _shares(rewards: tf.Tensor) -> tf.Tensor:
    """Returns the rewards, which a probability can only fit in [0, 1]."""
    largest = tf.reduce_max(rewards)
    is_share = tf.Assert(
        (tf.reduce_min(rewards) >= 0) & (largest <= 1),
        [
            "with `ranking.target: reward`, rewards should be in [0, 1]: give the event "
            "types in `ingest.event_types` such rewards, or learn `label`. Received:",
            tf.reduce_min(rewards),
            "to",
            largest,
        ],
    )
    with tf.control_dependencies([is_share]):
        return tf.identity(rewards)
