"""What users did lately, for several servers: in Redis, out of each server's durable log.

An event is on its server's disk (`EventStore`) before it is acknowledged, and then in Redis,
where every server finds it:

    <namespace>:recent:<user id>     sorted set by timestamp: event id, type and item
    <namespace>:met:<user id>        set of the event ids there
    <namespace>:forwarded:<log id>   number of the last event of a log that is here

Redis holds nothing that the logs do not: how far a log has been forwarded is written in the
transaction that writes its events, so that a Redis that was down, or came back empty or with
the state of a minute ago, gets what it lacks at the next event or the next look for new
versions. An event that was sent to two servers counts once.
"""

import contextlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.features import MAX_SEEN
from serving.errors import StoreUnavailableError
from serving.event_store import EventStore
from serving.redis_connection import RedisConnection

_ROWS_AT_ONCE = 1_000

# Members of one timestamp are sorted by their bytes: by event id, as ingestion does.
# KEYS: recent, met. ARGV: timestamp, event id, type, item, most
_ADD = """
if redis.call('SADD', KEYS[2], ARGV[2]) == 0 then return 0 end
local member = ARGV[2] .. '\\0' .. cjson.encode({ARGV[3], ARGV[4]})
redis.call('ZADD', KEYS[1], ARGV[1], member)
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[5])
if over > 0 then
  for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, over - 1)) do
    redis.call('SREM', KEYS[2], string.match(old, '^(.*)%z'))
  end
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, over - 1)
end
return 1
"""


class RedisEvents:
    """An `EventLog` whose users' past every server of one Redis knows.

    Args:
        log: on this server's disk; nobody else may append to it.
        connection: to Redis.
        kept_types: the event types that Redis is told of, those of histories.
        most: events that are kept of a user, the latest.
    """

    def __init__(
        self,
        log: EventStore,
        connection: RedisConnection,
        kept_types: Sequence[str],
        most: int = MAX_SEEN,
    ):
        self._log = log
        self._connection = connection
        self._kept_types = list(kept_types)
        self._most = most
        self._lock = threading.Lock()
        self._reader = sqlite3.connect(log.path, check_same_thread=False)
        self._position = connection.key("forwarded", _identity(self._reader))
        self._add = connection.client.register_script(_ADD)

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Writes events to the disk, all or none, then to Redis.

        Where Redis does not answer they are acknowledged all the same, as they are on
        disk, and get there as soon as it does.

        Returns:
            How many are new to this server's log.

        Raises:
            ValueError: if a column is missing.
        """
        new = self._log.append(events)
        if new:
            # What fails here is made good by `forward`, at each look for new versions.
            with contextlib.suppress(StoreUnavailableError):
                self._forward_some()
        return new

    def past(
        self, user_id: str, event_types: Sequence[str], before: int, most: int
    ) -> list[tuple[int, str]]:
        """Returns what a user did lately on any server, see `EventStore.past`.

        Raises:
            ValueError: for types that are not kept.
            StoreUnavailableError: if Redis does not answer.
        """
        unknown = sorted(set(event_types) - set(self._kept_types))
        if unknown:
            raise ValueError(
                f"`event_types` should be among {self._kept_types}. Received: {unknown}"
            )
        with self._connection.answering() as client:
            rows = client.zrevrangebyscore(
                self._connection.key("recent", user_id),
                f"({before}",
                "-inf",
                start=0,
                num=self._most,
                withscores=True,
            )
        read = ((time, json.loads(row.rpartition(b"\0")[2])) for row, time in rows)
        found = [
            (int(time), item)
            for time, (event_type, item) in read
            if event_type in event_types
        ]
        return found[:most][::-1]

    def forward(self) -> None:
        """Writes all to Redis that it lacks of this server's log.

        Raises:
            StoreUnavailableError: if Redis does not answer.
        """
        while self._forward_some() == _ROWS_AT_ONCE:
            pass

    def close(self) -> None:
        """Closes the log and the connections."""
        with self._lock:
            self._reader.close()
        self._log.close()
        self._connection.close()

    def _forward_some(self) -> int:
        """Forwards the next events, and returns how many they were."""
        # One at a time, or the slower of two would put the position back.
        with self._lock, self._connection.answering() as client:
            position = int(client.get(self._position) or 0)
            rows = self._after(position)
            if rows:
                with client.pipeline(transaction=True) as pipe:
                    for _, user_id, *event in rows:
                        recent = self._connection.key("recent", user_id)
                        met = self._connection.key("met", user_id)
                        self._add([recent, met], [*event, self._most], client=pipe)
                    pipe.set(self._position, rows[-1][0])
                    pipe.execute()
        return len(rows)

    def _after(self, position: int) -> list[tuple]:
        marks = ", ".join("?" * len(self._kept_types))
        return self._reader.execute(
            "SELECT number, user_id, timestamp, event_id, event_type, item_id "
            f"FROM events WHERE number > ? AND event_type IN ({marks}) "
            "ORDER BY number LIMIT ?",
            (position, *self._kept_types, _ROWS_AT_ONCE),
        ).fetchall()


def _identity(log: sqlite3.Connection) -> str:
    """Returns the id of a log, which it is given when it is first forwarded."""
    with log:
        log.execute("CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL)")
        log.execute(
            "INSERT INTO identity SELECT ? WHERE NOT EXISTS (SELECT * FROM identity)",
            (uuid.uuid4().hex,),
        )
    return log.execute("SELECT id FROM identity").fetchone()[0]
