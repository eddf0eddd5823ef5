"""Profiles that several servers share, in Redis.

    <namespace>:release               version of the release whose profiles are read
    <namespace>:profiles:<version>    hash: user id -> profile as JSON; "" -> the snapshot
    <namespace>:loading               token of the server that loads, while it does
    <namespace>:loading:<token>       hash: what it has loaded so far

One server loads for all. It fills a hash of its own and then gives it its name and its place
in one transaction, so that readers see a whole release. Readers ask by one script, which runs
between transactions, so that none is between the old and the new. A Redis that lost its data
is loaded again at the next look for new versions.
"""

import dataclasses
import itertools
import json
import secrets

from serving.profiles import Snapshot, profile_of, profile_records, snapshot_of
from serving.redis_connection import RedisConnection
from serving.release_tables import Profile, ReleaseTables

_ROWS_AT_ONCE = 500  # Redis answers nobody else while it takes them
_LOADING_S = 120  # a server that died while it loaded is waited for so long
_SNAPSHOT = ""  # no user's id is empty

# KEYS: release, a prefix. ARGV: user id. -> [snapshot or nil, record or nil]
_READ = """
local release = redis.call('GET', KEYS[1])
if not release then return {false, false} end
return redis.call('HMGET', KEYS[2] .. release, '', ARGV[1])
"""

# KEYS: loading, loading:<token>. ARGV: token, seconds, then field, value, ... -> 1 if ours
_FILL = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""

# KEYS: loading, loading:<token>, release, a prefix. ARGV: token, version.
_SWAP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local old = redis.call('GET', KEYS[3])
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[4] .. ARGV[2])
redis.call('SET', KEYS[3], ARGV[2])
if old and old ~= ARGV[2] then redis.call('UNLINK', KEYS[4] .. old) end
redis.call('DEL', KEYS[1])
return 1
"""

# KEYS: loading, loading:<token>. ARGV: token.
_GIVE_UP = """
redis.call('UNLINK', KEYS[2])
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""


class RedisProfiles:
    """A `ProfileStore` in Redis.

    Args:
        connection: to it.
    """

    def __init__(self, connection: RedisConnection):
        self._connection = connection
        key = connection.key
        self._release, self._profiles = key("release"), key("profiles", "")
        self._loading = key("loading")
        script = connection.client.register_script
        self._read, self._fill = script(_READ), script(_FILL)
        self._swap, self._give_up = script(_SWAP), script(_GIVE_UP)

    def read(self, user_id: str) -> tuple[Profile, Snapshot]:
        """Returns a user's profile, see `ProfileStore`."""
        with self._connection.answering():
            snapshot, record = self._read(
                [self._release, self._profiles], [user_id.encode()]
            )
        if snapshot is None:
            raise LookupError(
                "no release's profiles are in Redis yet; they are loaded within seconds"
            )
        known = Snapshot(**json.loads(snapshot))
        if record is None:
            return Profile(user_id, [], [], {}, is_known=False), known
        return profile_of(user_id, record), known

    def load(self, tables: ReleaseTables) -> None:
        """Takes the profiles of a release, see `ProfileStore`.

        Does nothing where Redis has those of this release or a newer one, which a server
        loaded that saw it first, or where another server is loading now.
        """
        with self._connection.answering() as client:
            snapshot, _ = self._read([self._release, self._profiles], [_SNAPSHOT])
            if snapshot and json.loads(snapshot)["release"] >= tables.version:
                return
            token = secrets.token_hex(8)
            if not client.set(self._loading, token, nx=True, ex=_LOADING_S):
                return
            try:
                self._load(tables, token)
            except BaseException:
                self._give_up([self._loading, self._staged(token)], [token])
                raise

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def _load(self, tables: ReleaseTables, token: str) -> None:
        keys = [self._loading, self._staged(token)]
        snapshot = json.dumps(dataclasses.asdict(snapshot_of(tables)))
        records = itertools.chain([(_SNAPSHOT, snapshot)], profile_records(tables))
        while some := list(itertools.islice(records, _ROWS_AT_ONCE)):
            fields = [text for pair in some for text in pair]
            if not self._fill(keys, [token, _LOADING_S, *fields]):
                return  # too slow: another server loads
        self._swap([*keys, self._release, self._profiles], [token, str(tables.version)])

    def _staged(self, token: str) -> str:
        return f"{self._loading}:{token}"
