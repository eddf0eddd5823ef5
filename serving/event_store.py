"""The events that a service takes in: each once, on disk before it is acknowledged.

SQLite holds them, with full synchronisation: an event that `append` returned for survives a
power cut, and one that is sent again, because its acknowledgement was lost, is known by its
id. The same table tells what a user did lately, so that a profile is never behind the log.
`write_segments` turns it into files that ingestion reads.
"""

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.events import REQUIRED_EVENT_COLUMNS
from schemas.features import EVENT_ID, EVENT_TYPE, ITEM_ID, TIMESTAMP, USER_ID

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  event_id TEXT NOT NULL UNIQUE,
  user_id TEXT NOT NULL,
  timestamp INTEGER NOT NULL,
  item_id TEXT NOT NULL,
  event_type TEXT NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_user ON events (user_id, timestamp, number);
CREATE TABLE IF NOT EXISTS segments (last INTEGER PRIMARY KEY);
"""
_BUSY_S = 30.0
_SEGMENT = "events-{first:012d}-{last:012d}.jsonl"


class EventStore:
    """A durable log of events; any thread may call it, and several processes.

    Args:
        path: of the database; made with its folder if missing.
    """

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        # Readers and a writer do not wait for each other; a commit waits for the disk.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(_SCHEMA)

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Writes events, all of them or none.

        Args:
            events: each with the columns of `schemas.events.REQUIRED_EVENT_COLUMNS`,
                `timestamp` in ms.

        Returns:
            How many are new; the others were there already, and stay as they were.

        Raises:
            ValueError: if a column is missing.
        """
        rows = [_row(event) for event in events]
        with self._transaction() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT OR IGNORE INTO events "
                "(event_id, user_id, timestamp, item_id, event_type, record) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            return connection.total_changes - before

    def past(
        self, user_id: str, event_types: Sequence[str], before: int, most: int
    ) -> list[tuple[int, str]]:
        """Returns what a user did lately.

        Args:
            user_id: whose events.
            event_types: of these types.
            before: ms; events at or after it are left out.
            most: how many, the latest ones.

        Returns:
            (timestamp, item_id) of each, the oldest first; within a moment by event id,
            as ingestion orders them.
        """
        marks = ", ".join("?" * len(event_types))
        with self._lock:
            rows = self._connection.execute(
                f"SELECT timestamp, item_id FROM events WHERE user_id = ? "
                f"AND timestamp < ? AND event_type IN ({marks}) "
                "ORDER BY timestamp DESC, event_id DESC LIMIT ?",
                (user_id, before, *event_types, most),
            ).fetchall()
        return rows[::-1]

    def __len__(self) -> int:
        with self._lock:
            (count,) = self._connection.execute(
                "SELECT COUNT(*) FROM events"
            ).fetchone()
        return count

    def write_segments(self, folder: Path, most: int = 100_000) -> list[Path]:
        """Writes the events that no file holds yet as JSON Lines, for ingestion.

        A file's name says which events it holds, and it appears whole or not at all: each
        event is in one file, whenever this was ended before. Files that have been read
        may be moved away.

        Args:
            folder: of the files.
            most: events of a file.

        Returns:
            The new files.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        while segment := self._next_segment(folder, most):
            path, lines = segment
            partial = path.with_suffix(".partial")
            with partial.open("w", encoding="utf-8") as writer:
                writer.writelines(f"{line}\n" for line in lines)
                writer.flush()
                os.fsync(writer.fileno())
            partial.rename(path)
            self._note_segment(path)
            written.append(path)
        return written

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._connection.close()

    def _next_segment(self, folder: Path, most: int) -> tuple[Path, list[str]] | None:
        # A file that was renamed into place but not noted is known by its name.
        ends = [_last_of(path) for path in folder.glob("events-*.jsonl")]
        with self._lock:
            (noted,) = self._connection.execute(
                "SELECT COALESCE(MAX(last), 0) FROM segments"
            ).fetchone()
            rows = self._connection.execute(
                "SELECT number, record FROM events WHERE number > ? "
                "ORDER BY number LIMIT ?",
                (max([*ends, noted]), most),
            ).fetchall()
        if not rows:
            return None
        name = _SEGMENT.format(first=rows[0][0], last=rows[-1][0])
        return folder / name, [record for _, record in rows]

    def _note_segment(self, path: Path) -> None:
        with self._transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO segments VALUES (?)", (_last_of(path),)
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


def export_events(database: Path, folder: Path) -> list[Path]:
    """Writes what a server took in as files; see `EventStore.write_segments`.

    Args:
        database: of the events.
        folder: of the files.
    """
    store = EventStore(database)
    try:
        return store.write_segments(folder)
    finally:
        store.close()


def _last_of(segment: Path) -> int:
    """Returns the number of a file's last event."""
    return int(segment.stem.split("-")[2])


def _row(event: Mapping[str, Any]) -> tuple[object, ...]:
    missing = [name for name in REQUIRED_EVENT_COLUMNS if event.get(name) in (None, "")]
    if missing:
        raise ValueError(f"an event should have {missing}. Received: {dict(event)}")
    named = (EVENT_ID, USER_ID, TIMESTAMP, ITEM_ID, EVENT_TYPE)
    record = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return (*(event[name] for name in named), record)
