"""A public log as a contest of retrieval models: one split, the same events for all.

Events stand in order of time. The last 20 % are the test, the last 10 % of what is before
are for validation, cut by Tandem's own rule: events that share a moment are never parted.
Every event is a positive. NumPy and Parquet alone, so that peers in environments of their
own can read it.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from models.retrieval.evaluation import Interactions

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1  # of what is before the test


@dataclasses.dataclass(frozen=True)
class Task:
    """What to learn from, and for which events to rank the catalogue.

    Attributes:
        log: all events, in order of time.
        num_items: size of the catalogue.
        num_train: the first so many events may be learnt from.
        rows: [n] of `log`, the events to predict.
    """

    log: Interactions
    num_items: int
    num_train: int
    rows: np.ndarray

    @property
    def train(self) -> Interactions:
        return Interactions(
            self.log.users[: self.num_train],
            self.log.items[: self.num_train],
            self.log.timestamps[: self.num_train],
        )

    @property
    def num_users(self) -> int:
        return int(self.log.users.max()) + 1

    @functools.cached_property
    def histories(self) -> list[np.ndarray]:
        """For each of `rows`, the items of its user's earlier events, oldest first."""
        return self.log.seen_before(self.rows)

    @property
    def positives(self) -> np.ndarray:
        return self.log.items[self.rows]


@dataclasses.dataclass(frozen=True)
class Contest:
    """A log with its split and the events that are ranked.

    Attributes:
        users: [N] int64, from 0.
        items: [N] int64, rows of `item_ids`.
        timestamps: [N] int64, ms, never falling.
        event_ids, titles, item_ids: str; [N], [items] and [items].
        num_fit: events before validation.
        num_train: events before the test.
        validation_rows, test_rows: the events to rank, a sample of either split.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    event_ids: np.ndarray
    item_ids: np.ndarray
    titles: np.ndarray
    num_fit: np.ndarray
    num_train: np.ndarray
    validation_rows: np.ndarray
    test_rows: np.ndarray

    @functools.cached_property
    def tuning(self) -> Task:
        """Learn from what is before validation, rank validation events."""
        return self._task(self.num_fit, self.validation_rows)

    @functools.cached_property
    def final(self) -> Task:
        """Learn from all that is before the test, rank test events."""
        return self._task(self.num_train, self.test_rows)

    def _task(self, num_train: np.ndarray, rows: np.ndarray) -> Task:
        log = Interactions(self.users, self.items, self.timestamps)
        return Task(log, len(self.item_ids), int(num_train), rows)

    def save(self, path: Path) -> None:
        """Writes what `load` reads."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Contest":
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Events ranked at most; from more, a seeded sample of this size."""

    validation: int
    test: int


def read_contest(directory: Path, sizes: Sizes, seed: int) -> Contest:
    """Makes a contest of a fetched dataset's canonical tables.

    Args:
        directory: holds `events.parquet` and `items.parquet`.
        sizes: of the samples.
        seed: seeds the samples.
    """
    import pyarrow.parquet as pq

    def columns(table: str, *names: str) -> list[np.ndarray]:
        read = pq.read_table(directory / f"{table}.parquet", columns=list(names))
        return [
            np.array(read[n].to_pylist(), None if n == "timestamp" else str)
            for n in names
        ]

    event_ids, user_ids, events_items, timestamps = columns(
        "events", "event_id", "user_id", "item_id", "timestamp"
    )
    item_ids, titles = columns("items", "item_id", "title")
    in_order = np.argsort(item_ids)
    order = np.lexsort((event_ids, timestamps))
    _, users = np.unique(user_ids, return_inverse=True)
    places = np.searchsorted(item_ids, events_items, sorter=in_order)
    items = in_order[np.minimum(places, len(item_ids) - 1)]
    if (item_ids[items] != events_items).any():
        raise ValueError(f"{directory}: every event's item should be in items.parquet")
    timestamps = timestamps[order]
    num_train = first_of_latest(timestamps, TEST_SHARE)
    num_fit = first_of_latest(timestamps[:num_train], VALIDATION_SHARE)
    rng = np.random.default_rng(seed)

    def sample(rows: np.ndarray, size: int) -> np.ndarray:
        return np.sort(rng.choice(rows, min(size, len(rows)), replace=False))

    return Contest(
        users=users[order],
        items=items[order],
        timestamps=timestamps,
        event_ids=event_ids[order],
        item_ids=item_ids,
        titles=titles,
        num_fit=np.array(num_fit),
        num_train=np.array(num_train),
        validation_rows=sample(np.arange(num_fit, num_train), sizes.validation),
        test_rows=sample(np.arange(num_train, len(items)), sizes.test),
    )


def first_of_latest(timestamps: np.ndarray, share: float) -> int:
    """Returns the row that the latest `share` of the events begin with.

    Events of that row's moment belong to the latest ones too.

    Args:
        timestamps: [N], never falling.
        share: in (0, 1).
    """
    row = len(timestamps) - round(len(timestamps) * share)
    return int(np.searchsorted(timestamps, timestamps[row], side="left"))
