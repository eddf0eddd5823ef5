"""What serving tests share: a flawless toy bundle, saved once, and a Redis of our own."""

import pytest

from tests.serving.redis_server import NoRedisError, RedisServer
from tests.serving.toy_release import write_bundle


@pytest.fixture(scope="session")
def good_bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("release") / "bundle")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"))
    except NoRedisError as error:
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture
def empty_redis(redis_server):
    redis_server.client.flushall()
    return redis_server
