"""What a recommender knows of its items beside what models read: windows and caps."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.policy import NO_VALUE, within_caps

_NEVER = np.iinfo(np.int64).max


class Windows(tf.Module):
    """When each item may be shown: item i at t if begin[i] <= t < end[i].

    Args:
        begin, end: [N] int64, ms since the epoch; negative where there is no bound.
    """

    def __init__(self, begin: np.ndarray, end: np.ndarray) -> None:
        super().__init__(name="windows")
        end = np.where(end < 0, _NEVER, end)
        is_empty = (begin >= 0) & (end <= begin)
        begin = np.where(is_empty, _NEVER, begin).astype(np.int64)
        end = np.where(is_empty, _NEVER, end).astype(np.int64)
        self._begin = tf.Variable(begin, trainable=False, name="begin")
        self._end = tf.Variable(end, trainable=False, name="end")
        self._begins = tf.Variable(np.sort(begin), trainable=False, name="begins")
        self._ends = tf.Variable(np.sort(end), trainable=False, name="ends")

    @classmethod
    def of(cls, begin: np.ndarray, end: np.ndarray) -> "Windows | None":
        """Returns the windows, or None where no item has a bound."""
        has_bounds = (np.asarray(begin) >= 0).any() or (np.asarray(end) >= 0).any()
        return cls(np.asarray(begin), np.asarray(end)) if has_bounds else None

    def are_open(self, rows: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
        """Returns bool [B, X]: which items may be shown.

        Args:
            rows: int32 [B, X]; below 0 for none.
            now: int64 [B], ms; where it is 0 or less, all may.
        """
        now, rows = now[:, tf.newaxis], tf.maximum(rows, 0)
        is_inside = (tf.gather(self._begin, rows) <= now) & (
            now < tf.gather(self._end, rows)
        )
        return is_inside | (now <= 0)

    def num_closed(self, now: tf.Tensor) -> tf.Tensor:
        """Returns int32 [B]: how many items may not be shown."""
        # No item counts twice: one that has ended has begun.
        begun = tf.searchsorted(self._begins, now, side="right")
        ended = tf.searchsorted(self._ends, now, side="right")
        closed = tf.size(self._begins) - begun + ended
        return tf.where(now > 0, closed, 0)


@dataclasses.dataclass(frozen=True)
class Caps:
    """What slates are capped by.

    Attributes:
        values: int32 [N, L], of each item, `NO_VALUE` for none. A value names one thing
            of one feature, and stands once in an item's row.
        limits: [L], the most items of a slate that may share a value of the column.
    """

    values: np.ndarray
    limits: tuple[int, ...]

    @classmethod
    def of(cls, features: Sequence[tuple[int, Sequence[Sequence[str]]]]) -> "Caps":
        """Makes caps of features.

        Args:
            features: of each (limit, the values of each of N items).
        """
        columns: list[np.ndarray] = []
        limits: list[int] = []
        num_values = 0
        for limit, of_items in features:
            distinct = [list(dict.fromkeys(filter(None, item))) for item in of_items]
            ids: dict[str, int] = {}
            width = max([1, *map(len, distinct)])
            block = np.full([len(distinct), width], NO_VALUE, np.int32)
            for row, values in enumerate(distinct):
                for column, value in enumerate(values):
                    block[row, column] = num_values + ids.setdefault(value, len(ids))
            num_values += len(ids)
            columns.append(block)
            limits += [limit] * width
        return cls(np.concatenate(columns, axis=1), tuple(limits))

    def num_fitting(self) -> int:
        """Returns how many items of the catalogue fit under the caps together."""
        fits = within_caps(tf.constant(self.values[np.newaxis]), self.limits)
        return int(np.asarray(fits).sum())


@dataclasses.dataclass(frozen=True)
class ItemFacts:
    """What is known of the items.

    Attributes:
        windows: when each may be shown; None where all always may.
        caps: None where slates are not capped.
        vectors: [N, D], a likeness of items to keep slates diverse by; a `tf.Variable` is
            shared. None where they are not kept so.
    """

    windows: Windows | None = None
    caps: Caps | None = None
    vectors: np.ndarray | tf.Variable | None = None


NO_FACTS = ItemFacts()
