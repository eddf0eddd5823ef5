"""What is known of a user: the release's log, then what came since, never the future."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.events import PROFILES_AS_OF
from serving.event_store import EventStore
from serving.profiles import Past, Snapshot, past_of
from serving.redis_connection import RedisConnection
from serving.redis_events import RedisEvents
from serving.redis_profiles import RedisProfiles
from serving.release_layout import PROFILES
from serving.release_tables import Profile, ReleaseTables
from serving.sqlite_profiles import SqliteProfiles

AS_OF = 5000
ANA = {
    "user_id": "ana",
    "age": 31.0,
    "job": None,
    "history_item_ids": ["i1", "i2"],
    "seen_item_ids": ["i0", "i1", "i2"],
}


def write_release(folder, version: int, rows: list[dict], as_of: int | None = AS_OF):
    """Writes a file for each row, as a release's shards are."""
    (folder / PROFILES).mkdir(parents=True)
    for place, row in enumerate(rows):
        table = pa.Table.from_pylist([row])
        if as_of is not None:
            metadata = {PROFILES_AS_OF: str(as_of).encode()}
            table = table.replace_schema_metadata(metadata)
        pq.write_table(table, folder / PROFILES / f"profiles-{place}.parquet")
    return ReleaseTables(version, folder)


@pytest.fixture(params=["sqlite", "redis"])
def profiles(request, tmp_path):
    if request.param == "sqlite":
        opened = SqliteProfiles(tmp_path / "profiles" / "profiles.db")
    else:
        server = request.getfixturevalue("empty_redis")
        opened = RedisProfiles(RedisConnection(server.url))
    yield opened
    opened.close()


def test_profiles_are_read_by_user(profiles, tmp_path):
    ben = {**ANA, "user_id": "ben", "age": None, "job": "cook"}
    tables = write_release(tmp_path / "1", 17, [ANA, ben])
    profiles.load(tables)
    found, snapshot = profiles.read("ana")
    assert snapshot == Snapshot(17, AS_OF)
    assert found == Profile(
        "ana", ["i1", "i2"], ["i0", "i1", "i2"], {"user_age": 31.0}, is_known=True
    )
    assert found == tables.profile("ana")
    assert profiles.read("ben")[0].features == {"user_job": "cook"}
    assert profiles.read("nobody")[0] == Profile("nobody", [], [], {}, is_known=False)


def test_a_release_takes_the_place_of_the_one_before(profiles, tmp_path):
    ben = {**ANA, "user_id": "ben"}
    profiles.load(write_release(tmp_path / "1", 17, [ANA, ben]))
    older = {**ANA, "age": 32.0}
    profiles.load(write_release(tmp_path / "2", 18, [older], as_of=6000))
    assert profiles.read("ana")[0].features == {"user_age": 32.0}
    assert profiles.read("ana")[1] == Snapshot(18, 6000)
    assert not profiles.read("ben")[0].is_known


def test_a_release_that_cannot_be_read_changes_nothing(profiles, tmp_path):
    profiles.load(write_release(tmp_path / "1", 17, [ANA]))
    broken = write_release(tmp_path / "2", 18, [{**ANA, "age": 99.0}])
    (broken.directory / PROFILES / "profiles-9.parquet").write_text("no table")
    with pytest.raises(pa.ArrowException):
        profiles.load(broken)
    assert profiles.read("ana")[0].features == {"user_age": 31.0}


def test_before_a_release_there_is_nothing_to_read(profiles):
    with pytest.raises(LookupError, match="no release"):
        profiles.read("ana")


def test_release_without_a_moment_knows_none(profiles, tmp_path):
    profiles.load(write_release(tmp_path / "1", 17, [ANA], as_of=None))
    assert profiles.read("ana")[1].as_of == 0


@pytest.fixture(params=["sqlite", "redis"])
def events(request, tmp_path):
    store = EventStore(tmp_path / "events.db")
    if request.param == "redis":
        server = request.getfixturevalue("empty_redis")
        kept = [*POSITIVE, "impression"]  # which a checker asks for
        store = RedisEvents(store, RedisConnection(server.url), kept)
    kinds = {
        3000: "click",
        5000: "click",
        6000: "impression",
        7000: "like",
        9000: "click",
    }
    store.append(
        [
            {
                "event_id": str(time),
                "timestamp": time,
                "user_id": "ana",
                "item_id": f"e{time}",
                "event_type": kind,
            }
            for time, kind in kinds.items()
        ]
    )
    yield store
    store.close()


PROFILE = Profile("ana", ["i1", "i2"], ["i0", "i1", "i2"], {}, True)
POSITIVE = ["click", "like"]


def check_past(implementation, events):
    """The log's past and what came at or after its end, but nothing of now or later."""
    snapshot = Snapshot(17, AS_OF)

    def past(at, length):
        return implementation(PROFILE, snapshot, events, POSITIVE, at, length)

    seen = ["i0", "i1", "i2"]
    assert past(5000, 10) == Past(["i1", "i2"], seen)
    assert past(5001, 10) == Past(["i1", "i2", "e5000"], [*seen, "e5000"])
    assert past(9000, 10).history == ["i1", "i2", "e5000", "e7000"]
    assert past(9000, 3).history == ["i2", "e5000", "e7000"]
    assert past(9001, 1) == Past(["e9000"], [*seen, "e5000", "e7000", "e9000"])


def with_the_log_twice(profile, snapshot, *rest):
    return past_of(profile, Snapshot(snapshot.release, 0), *rest)


def with_the_present(profile, snapshot, events, types, at, length):
    return past_of(profile, snapshot, events, types, at + 1, length)


def with_impressions(profile, snapshot, events, types, at, length):
    return past_of(profile, snapshot, events, [*types, "impression"], at, length)


def test_past(events):
    check_past(past_of, events)


@pytest.mark.parametrize(
    "wrong", [with_the_log_twice, with_the_present, with_impressions]
)
def test_checker_rejects_wrong_pasts(events, wrong):
    with pytest.raises(AssertionError):
        check_past(wrong, events)


def test_vectors_and_lists_survive(profiles, tmp_path):
    row = {**ANA, "tastes": ["a", "b"], "vector": [0.5, -1.0]}
    profiles.load(write_release(tmp_path / "1", 17, [row]))
    features = profiles.read("ana")[0].features
    assert features["user_tastes"] == ["a", "b"]
    assert json.dumps(features["user_vector"]) == "[0.5, -1.0]"
