"""The HTTP API of a root folder: where its stores lie, and what an outage of them does."""

import pytest

from pipeline.config import load_config
from pipeline.http_front import Upkeep, http_front
from pipeline.layout import Layout
from serving.errors import StoreUnavailableError
from serving.redis_events import RedisEvents
from serving.redis_profiles import RedisProfiles
from serving.release_tables import NoReleaseError
from serving.sqlite_profiles import SqliteProfiles


@pytest.fixture
def root(tmp_path):
    layout = Layout(tmp_path)
    layout.config.parent.mkdir()
    config = load_config("movielens-100k", ())
    layout.config.write_text(config.model_dump_json())
    return tmp_path


def test_a_root_without_a_run_has_no_api(tmp_path):
    assert http_front(tmp_path, 0) is None


def test_stores_lie_in_the_root_unless_a_redis_is_named(root):
    service = http_front(root, 0).make_service(None)
    assert isinstance(service._profiles, SqliteProfiles)
    shared = http_front(root, 0, "redis://127.0.0.1:1/0").make_service(None)
    assert isinstance(shared._profiles, RedisProfiles)
    assert isinstance(shared._events, RedisEvents)


def test_what_is_no_address_is_refused_before_anything_is_served(root):
    with pytest.raises(ValueError, match="redis://HOST:PORT/DB"):
        http_front(root, 0, "localhost:6379")


def test_without_a_release_there_is_nothing_to_look_after(root):
    with pytest.raises(NoReleaseError):
        http_front(root, 0).on_poll()


def test_an_outage_is_told_once_and_stops_nothing(caplog):
    is_down = iter([False, True, True, True, False, False, True])

    def work():
        if next(is_down):
            raise StoreUnavailableError("no Redis answers")

    upkeep = Upkeep(work)
    for _ in range(7):
        upkeep()
    assert caplog.messages == [
        "no Redis answers",
        "the store of profiles and events answers again",
        "no Redis answers",
    ]
