"""How a server reaches Redis, and what it says when it does not.

One Redis, or one behind Sentinel's or a proxy's address; not Redis Cluster, whose scripts
may not touch keys of several slots.
"""

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.errors import StoreUnavailableError

SCHEMES = ("redis", "rediss", "unix")
_TIMEOUT_S = 2.0  # beyond it a request had better be refused than wait


class RedisConnection:
    """A pool of connections to one Redis; any thread may use it.

    Nothing is asked before the first call. A connection that broke is opened anew by the
    next call, so that a Redis that comes back is used again.

    Args:
        url: `redis://HOST:PORT/DB`, `rediss://` for TLS, `unix://PATH?db=DB`.
        namespace: begins every key.
        timeout_s: seconds to connect, and to wait for an answer.

    Raises:
        ValueError: if `url` is no such address.
    """

    def __init__(
        self, url: str, namespace: str = "tandem", timeout_s: float = _TIMEOUT_S
    ):
        check_redis_url(url)
        self.name = _without_password(url)
        self._namespace = namespace
        self.client = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Once more, at once: a pooled connection may be of before a restart.
            retry=Retry(NoBackoff(), 1),
            health_check_interval=30,
        )

    def key(self, *parts: str) -> str:
        """Returns a key in this connection's namespace."""
        return ":".join((self._namespace, *parts))

    @contextlib.contextmanager
    def answering(self) -> Iterator[redis.Redis]:
        """Lends the client.

        Raises:
            StoreUnavailableError: if Redis does not answer, or refuses.
        """
        try:
            yield self.client
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise StoreUnavailableError(
                f"no Redis answers at {self.name}. Start it, or give the address of one "
                f"that runs by `tandem serve --profiles` ({error})"
            ) from error
        except redis.ResponseError as error:
            raise StoreUnavailableError(
                f"the Redis at {self.name} refuses: {error}. See its log, its "
                "`maxmemory` and the user's rights"
            ) from error

    def close(self) -> None:
        """Closes the connections."""
        self.client.close()


def check_redis_url(url: str) -> None:
    """Checks that a text can be the address of a Redis.

    Raises:
        ValueError: if not; the message says what it should look like.
    """
    form = "redis://HOST:PORT/DB (rediss:// for TLS), or unix:///PATH?db=DB"
    try:
        if urlsplit(url).scheme not in SCHEMES:
            raise ValueError("no scheme of Redis")
        redis.ConnectionPool.from_url(url)
    except ValueError as error:
        raise ValueError(
            f"the address of a Redis should be {form}. "
            f"Received: {_without_password(url)} ({error})"
        ) from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
