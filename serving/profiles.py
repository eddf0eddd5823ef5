"""What is known of a user at once, by id: features, and the items of the log's past.

A release brings the profiles of all users as of the end of its log. What users did since is
in the event store; `past_of` puts the two together by the rule that made the training
rows. `SqliteProfiles` holds them for one machine; what else has `read` and `load` can take
its place.
"""

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow.parquet as pq

from schemas.events import PROFILES_AS_OF
from schemas.features import HISTORY, MAX_SEEN, SEEN, USER_ID
from schemas.history import history_at
from serving.event_store import EventStore
from serving.release_layout import PROFILES
from serving.release_tables import Profile, ReleaseTables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS profiles (user_id TEXT PRIMARY KEY, record TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS loaded (release INTEGER, as_of INTEGER);
"""
_ROWS_AT_ONCE = 10_000


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Of which moment the profiles are.

    Attributes:
        release: version that brought them.
        as_of: ms; they know the events before.
    """

    release: int
    as_of: int


class ProfileStore(Protocol):
    """Profiles by user id."""

    def read(self, user_id: str) -> tuple[Profile, Snapshot]:
        """Returns a user's profile, an empty one for an unknown user."""

    def load(self, tables: ReleaseTables) -> None:
        """Takes the profiles of a release in place of those that there are."""


class SqliteProfiles:
    """Profiles in an SQLite file; any thread may call it.

    Args:
        path: of the database; made with its folder if missing.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(_SCHEMA)

    def read(self, user_id: str) -> tuple[Profile, Snapshot]:
        """Returns a user's profile, an empty one for an unknown user.

        Raises:
            LookupError: before the first `load`.
        """
        with self._lock:
            loaded = self._connection.execute("SELECT * FROM loaded").fetchone()
            found = self._connection.execute(
                "SELECT record FROM profiles WHERE user_id = ?", (user_id,)
            ).fetchone()
        if loaded is None:
            raise LookupError("no release's profiles have been loaded")
        snapshot = Snapshot(*loaded)
        if found is None:
            return Profile(user_id, [], [], {}, is_known=False), snapshot
        record = json.loads(found[0])
        return Profile(user_id=user_id, is_known=True, **record), snapshot

    def load(self, tables: ReleaseTables) -> None:
        """Takes the profiles of a release in place of those that there are, at once."""
        files = sorted((tables.directory / PROFILES).glob("*.parquet"))
        with self._lock:
            loaded = self._connection.execute("SELECT release FROM loaded").fetchone()
            if loaded == (tables.version,):
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM profiles")
                self._connection.execute("DELETE FROM loaded")
                for file in files:
                    self._connection.executemany(
                        "INSERT INTO profiles VALUES (?, ?)", _records(file)
                    )
                self._connection.execute(
                    "INSERT INTO loaded VALUES (?, ?)", (tables.version, _as_of(files))
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._connection.close()


@dataclasses.dataclass(frozen=True)
class Past:
    """What a request says of its user's past.

    Attributes:
        history: items, the oldest first, as the model reads them.
        seen: items that are not to be recommended again.
    """

    history: list[str]
    seen: list[str]


def past_of(
    profile: Profile,
    snapshot: Snapshot,
    events: EventStore,
    positive_types: Sequence[str],
    at: int,
    length: int,
) -> Past:
    """Returns a user's past at a moment: the release's log, then what came since.

    Args:
        profile: of the user.
        snapshot: of which moment it is.
        events: taken in since.
        positive_types: the event types that enter histories.
        at: ms; nothing at or after it is known.
        length: the most items a history holds.
    """
    recent = events.past(profile.user_id, positive_types, at, MAX_SEEN)
    since = [(time, item) for time, item in recent if time >= snapshot.as_of]
    times = np.array([time for time, _ in since], np.int64)
    start, end = history_at(times, np.ones(len(since), bool), at, length)
    new = [item for _, item in since]
    history = [*profile.history_item_ids, *new[start:end]][-length:]
    return Past(history, [*profile.seen_item_ids, *new][-MAX_SEEN:])


def _records(file: Path) -> Iterable[tuple[str, str]]:
    for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
            user_id = row.pop(USER_ID)
            record = {
                "history_item_ids": row.pop(HISTORY) or [],
                "seen_item_ids": row.pop(SEEN, None) or [],
                "features": {
                    f"user_{name}": value
                    for name, value in row.items()
                    if value is not None
                },
            }
            yield user_id, json.dumps(record)


def _as_of(files: Sequence[Path]) -> int:
    """Returns the moment that files say; 0 for those of a release that says none."""
    moments = [
        (pq.read_schema(file).metadata or {}).get(PROFILES_AS_OF) for file in files
    ]
    return max((int(moment) for moment in moments if moment), default=0)
