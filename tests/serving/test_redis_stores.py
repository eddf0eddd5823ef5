"""Servers that share a Redis: whole releases, each event once, outages that end."""

import pytest

from schemas.features import MAX_SEEN
from serving import redis_profiles
from serving.errors import StoreUnavailableError
from serving.event_store import EventStore
from serving.profiles import Snapshot
from serving.redis_connection import RedisConnection, check_redis_url
from serving.redis_events import RedisEvents
from serving.redis_profiles import RedisProfiles
from tests.serving.test_event_store import event
from tests.serving.test_profiles import ANA, write_release

NUM_USERS = 1100  # more than are written at once
TYPES = ["click", "like"]


@pytest.fixture
def connect(empty_redis):
    opened = []

    def connect():
        opened.append(RedisConnection(empty_redis.url, timeout_s=1.0))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


def write_users(folder, version: int):
    """Writes a release whose users are as old as its version."""
    rows = [{**ANA, "age": float(version), "user_id": f"u{i}"} for i in range(3)]
    return write_release(folder, version, rows)


def check_readers_see_whole_releases(store, connection, folder, monkeypatch):
    """Reads at every moment of a load: a profile and its snapshot are of one release."""
    first, second = write_users(folder / "17", 17), write_users(folder / "18", 18)
    RedisProfiles(connection).load(first)
    reader, seen = RedisProfiles(connection), []

    def records(tables):
        for number in range(NUM_USERS):
            if number % 100 == 0:
                seen.append(reader.read("u1"))
            record = f'"features": {{"user_age": {tables.version}.0}}'
            lists = '"history_item_ids": [], "seen_item_ids": []'
            yield f"u{number}", f"{{{lists}, {record}}}"

    monkeypatch.setattr(redis_profiles, "profile_records", records)
    store(connection).load(second)
    seen.append(reader.read("u1"))
    for profile, snapshot in seen:
        assert profile.features == {"user_age": float(snapshot.release)}
    releases = [snapshot.release for _, snapshot in seen]
    assert releases == [17] * 11 + [18]


class InPlace(RedisProfiles):
    """Writes into what is read, and says last of which release it is."""

    def _staged(self, token):
        return self._profiles + self._connection.client.get(self._release).decode()


class EmptiesFirst(RedisProfiles):
    """Removes the old before it writes the new."""

    def _load(self, tables, token):
        self._connection.client.flushall()
        self._connection.client.set(self._loading, token)
        super()._load(tables, token)


def test_readers_see_whole_releases(connect, tmp_path, monkeypatch):
    check_readers_see_whole_releases(RedisProfiles, connect(), tmp_path, monkeypatch)


@pytest.mark.parametrize("wrong", [InPlace, EmptiesFirst])
def test_checker_rejects_torn_releases(connect, tmp_path, monkeypatch, wrong):
    with pytest.raises((AssertionError, LookupError)):
        check_readers_see_whole_releases(wrong, connect(), tmp_path, monkeypatch)


def test_what_a_killed_loader_left_goes_by_itself(connect, tmp_path, monkeypatch):
    connection = connect()

    class Killed(BaseException):
        pass

    def records(tables):
        yield from ((f"u{number}", "{}") for number in range(NUM_USERS))
        raise Killed

    monkeypatch.setattr(redis_profiles, "profile_records", records)
    profiles = RedisProfiles(connection)
    monkeypatch.setattr(profiles, "_give_up", lambda keys, args: None)
    with pytest.raises(Killed):
        profiles.load(write_users(tmp_path / "17", 17))
    left = connection.client.keys("*")
    assert len(left) == 2
    assert all(0 < connection.client.ttl(key) <= 120 for key in left)


def test_one_server_loads_for_all(connect, tmp_path):
    connection = connect()
    tables = write_users(tmp_path / "17", 17)
    connection.client.set(connection.key("loading"), "another")
    RedisProfiles(connection).load(tables)
    with pytest.raises(LookupError, match="loaded within seconds"):
        RedisProfiles(connection).read("u1")
    connection.client.delete(connection.key("loading"))
    RedisProfiles(connection).load(tables)
    assert RedisProfiles(connect()).read("u1")[1].release == 17


def test_a_loader_that_was_too_slow_changes_nothing(connect, tmp_path, monkeypatch):
    connection = connect()

    def records(tables):
        connection.client.set(connection.key("loading"), "another")
        yield from ((f"u{number}", "{}") for number in range(NUM_USERS))

    monkeypatch.setattr(redis_profiles, "profile_records", records)
    RedisProfiles(connection).load(write_users(tmp_path / "17", 17))
    assert connection.client.get(connection.key("release")) is None
    assert connection.client.get(connection.key("loading")) == b"another"


def test_a_server_that_looks_late_brings_no_older_release_back(connect, tmp_path):
    profiles = RedisProfiles(connect())
    older, newer = write_users(tmp_path / "17", 17), write_users(tmp_path / "18", 18)
    profiles.load(newer)
    profiles.load(older)
    assert profiles.read("u1")[1] == Snapshot(18, 5000)
    assert profiles.read("u1")[0].features == {"user_age": 18.0}


def test_an_outage_is_named_and_ends(connect, empty_redis, tmp_path):
    profiles = RedisProfiles(connect())
    tables = write_users(tmp_path / "17", 17)
    profiles.load(tables)
    empty_redis.stop()
    with pytest.raises(StoreUnavailableError, match=f"{empty_redis.port}.*Start it"):
        profiles.read("u1")
    with pytest.raises(StoreUnavailableError):
        profiles.load(tables)
    empty_redis.start()
    with pytest.raises(LookupError):  # it came back empty
        profiles.read("u1")
    profiles.load(tables)
    assert profiles.read("u1")[0].is_known


def test_a_refusal_is_named(connect, tmp_path):
    connection = connect()
    connection.client.set(connection.key("release"), "17")
    connection.client.set(connection.key("profiles", "17"), "no hash")
    with pytest.raises(StoreUnavailableError, match="refuses: .*WRONGTYPE"):
        RedisProfiles(connection).read("u1")


def test_no_message_tells_the_password():
    connection = RedisConnection("redis://me:secret@127.0.0.1:1/0")
    with pytest.raises(StoreUnavailableError) as caught:
        RedisProfiles(connection).read("u1")
    assert "secret" not in str(caught.value)
    assert "redis://127.0.0.1:1/0" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://a", "redis://h:port/0", "redis://a:b@h:x"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match="redis://HOST:PORT/DB"):
        check_redis_url(url)


@pytest.fixture
def server_of(connect, tmp_path):
    """Returns the events of a server by its name."""
    opened = {}

    def server_of(name: str, **settings) -> RedisEvents:
        if name not in opened:
            log = EventStore(tmp_path / f"{name}.db")
            opened[name] = RedisEvents(log, connect(), TYPES, **settings)
        return opened[name]

    yield server_of
    for events in opened.values():
        events.close()


def past(events, most: int = 10) -> list[str]:
    return [item for _, item in events.past("ana", TYPES, 10_000, most)]


def test_every_server_knows_what_each_took_in(server_of):
    a, b = server_of("a"), server_of("b")
    assert a.append([event(3), event(1), event(2, kind="impression")]) == 2 + 1
    assert b.append([event(4), event(5, user="ben"), event(6, kind="like")]) == 3
    assert past(a) == past(b) == ["i1", "i3", "i4", "i6"]
    assert a.past("ana", ["like"], 10_000, 10) == [(6000, "i6")]
    assert a.past("ana", TYPES, 4000, 10) == [(1000, "i1"), (3000, "i3")]
    assert past(b, most=2) == ["i4", "i6"]
    assert a.past("nobody", TYPES, 10_000, 10) == []


def test_events_of_one_moment_are_in_the_order_of_ingestion(server_of, tmp_path):
    """By event id, as bytes: histories in training are, and those served must be."""
    ids = ["e9", "e2", "e11", "e1", "e1 x", "é", "e1\0y", "e1!"]
    rows = [{**event(1, at=7, item=f"of {name}"), "event_id": name} for name in ids]
    server_of("a").append(rows)
    expected = [f"of {name}" for name in sorted(ids, key=str.encode)]
    assert past(server_of("b")) == expected
    alone = EventStore(tmp_path / "alone.db")
    alone.append(rows)
    assert past(alone) == expected
    alone.close()


def test_an_event_that_two_servers_took_in_counts_once(server_of):
    a, b = server_of("a"), server_of("b")
    assert [server.append([event(1)]) for server in (a, b, a)] == [1, 1, 0]
    assert past(a) == ["i1"]


def test_only_the_latest_are_kept(server_of, empty_redis):
    events = server_of("a", most=3)
    events.append([event(number) for number in (5, 1, 4, 3, 2)])
    assert past(events) == ["i3", "i4", "i5"]
    assert empty_redis.client.scard("tandem:met:ana") == 3
    events.append([event(1, item="other")])  # known to the log, and too old anyway
    assert past(events) == ["i3", "i4", "i5"]


def test_events_taken_in_while_redis_was_down_get_there(server_of, empty_redis):
    a, b = server_of("a"), server_of("b")
    a.append([event(1)])
    empty_redis.stop()
    assert a.append([event(2)]) == 1  # on disk, so acknowledged
    with pytest.raises(StoreUnavailableError):
        past(a)
    with pytest.raises(StoreUnavailableError):
        a.forward()
    empty_redis.start()  # and it has forgotten everything
    assert past(b) == []
    a.forward()
    assert past(b) == ["i1", "i2"]
    a.append([event(3)])
    assert past(b) == ["i1", "i2", "i3"]


def test_a_long_log_is_forwarded_whole(server_of, empty_redis):
    events = server_of("a", most=5000)
    empty_redis.stop()
    events.append([event(number, at=number) for number in range(1, 2501)])
    empty_redis.start()
    events.forward()
    assert empty_redis.client.zcard("tandem:recent:ana") == 2500


def test_an_answer_that_was_lost_doubles_nothing(server_of, empty_redis):
    """The state of a minute ago: what is forwarded again is known by its id."""
    events = server_of("a")
    events.append([event(1)])
    (position,) = empty_redis.client.keys("tandem:forwarded:*")
    before = empty_redis.client.get(position)
    events.append([event(2), event(3)])
    empty_redis.client.set(position, before)
    events.forward()
    assert past(events) == ["i1", "i2", "i3"]
    assert empty_redis.client.get(position) == b"3"


def test_types_that_redis_is_not_told_of_are_refused(server_of):
    with pytest.raises(ValueError, match="impression"):
        server_of("a").past("ana", ["impression"], 10_000, MAX_SEEN)
