"""What is known of a user at once, by id: features, and the items of the log's past.

A release brings the profiles of all users as of the end of its log. What users did since is
in the event log; `past_of` puts the two together by the rule that made the training rows.
Both have two homes: SQLite for one server (`sqlite_profiles.py`, `event_store.py`), Redis
for several (`redis_profiles.py`, `redis_events.py`).
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from schemas.events import PROFILES_AS_OF
from schemas.features import HISTORY, MAX_SEEN, SEEN, USER_ID
from schemas.history import history_at
from serving.release_layout import PROFILES
from serving.release_tables import Profile, ReleaseTables

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
    """Profiles by user id; any thread may call it."""

    def read(self, user_id: str) -> tuple[Profile, Snapshot]:
        """Returns a user's profile, an empty one for an unknown user.

        Raises:
            LookupError: before the first `load`.
            StoreUnavailableError: if the store does not answer.
        """

    def load(self, tables: ReleaseTables) -> None:
        """Takes the profiles of a release in place of those that there are, at once.

        Whoever reads meanwhile sees the old ones or the new ones, never some of each.

        Raises:
            StoreUnavailableError: if the store does not answer.
        """

    def close(self) -> None:
        """Lets go of the store."""


class EventLog(Protocol):
    """What a service takes in, and what a user did lately; any thread may call it."""

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Writes events, all or none, and returns how many are new."""

    def past(
        self, user_id: str, event_types: Sequence[str], before: int, most: int
    ) -> list[tuple[int, str]]:
        """Returns (timestamp, item_id) of what a user did lately, the oldest first."""


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
    events: EventLog,
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


def profile_of(user_id: str, record: str) -> Profile:
    """Returns the profile that `profile_records` wrote down."""
    return Profile(user_id=user_id, is_known=True, **json.loads(record))


def profile_records(tables: ReleaseTables) -> Iterable[tuple[str, str]]:
    """Yields (user_id, profile as JSON) of each user that a release knows."""
    for file in _files(tables):
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                yield row.pop(USER_ID), json.dumps(_record(row))


def snapshot_of(tables: ReleaseTables) -> Snapshot:
    """Returns of which moment a release's profiles are; 0 where it does not say."""
    moments = [
        (pq.read_schema(file).metadata or {}).get(PROFILES_AS_OF)
        for file in _files(tables)
    ]
    as_of = max((int(moment) for moment in moments if moment), default=0)
    return Snapshot(tables.version, as_of)


def _record(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "history_item_ids": row.pop(HISTORY) or [],
        "seen_item_ids": row.pop(SEEN, None) or [],
        "features": {
            f"user_{name}": value for name, value in row.items() if value is not None
        },
    }


def _files(tables: ReleaseTables) -> list[Path]:
    return sorted((tables.directory / PROFILES).glob("*.parquet"))
