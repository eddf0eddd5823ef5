"""Profiles of one machine's server, in an SQLite file."""

import sqlite3
import threading
from pathlib import Path

from serving.profiles import Snapshot, profile_of, profile_records, snapshot_of
from serving.release_tables import Profile, ReleaseTables

_SCHEMA = """
CREATE TABLE IF NOT EXISTS profiles (user_id TEXT PRIMARY KEY, record TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS loaded (release INTEGER, as_of INTEGER);
"""


class SqliteProfiles:
    """A `ProfileStore` in an SQLite file.

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
        """Returns a user's profile, see `ProfileStore`."""
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
        return profile_of(user_id, found[0]), snapshot

    def load(self, tables: ReleaseTables) -> None:
        """Takes the profiles of a release, see `ProfileStore`."""
        with self._lock:
            loaded = self._connection.execute("SELECT release FROM loaded").fetchone()
            if loaded == (tables.version,):
                return
            snapshot = snapshot_of(tables)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.execute("DELETE FROM profiles")
                self._connection.execute("DELETE FROM loaded")
                self._connection.executemany(
                    "INSERT INTO profiles VALUES (?, ?)", profile_records(tables)
                )
                self._connection.execute(
                    "INSERT INTO loaded VALUES (?, ?)",
                    (snapshot.release, snapshot.as_of),
                )
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the database."""
        with self._lock:
            self._connection.close()
