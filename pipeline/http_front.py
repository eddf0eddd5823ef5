"""The HTTP API of a root folder: its releases' profiles, its events, its config."""

import atexit
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import TandemConfig
from pipeline.layout import Layout
from serving.errors import StoreUnavailableError
from serving.release_tables import latest_release
from serving.server import HttpFront

if TYPE_CHECKING:
    from serving.request_log import RequestLog

_LOG = logging.getLogger(__name__)


def http_front(
    root: Path,
    port: int,
    redis_url: str | None = None,
    logged_share: float = 0.0,
) -> HttpFront | None:
    """Returns the API in front of a root's releases; None where no run left its config.

    Args:
        root: the root folder; receives `events/`, with what is shown and done.
        port: 0 takes a free one.
        redis_url: of the Redis that holds what several servers share; None keeps it in
            the root folder, for one server.
        logged_share: of the requests, in [0, 1], of which it is kept what the model was
            told, for `tandem skew`.

    Raises:
        ValueError: if `redis_url` is no address of a Redis.
    """
    layout = Layout(root)
    if not layout.config.exists():
        return None
    config = TandemConfig.model_validate_json(layout.config.read_text())
    # These import TensorFlow's messages, which takes seconds.
    from serving.event_store import EventStore
    from serving.recommend_service import RecommendService, ServiceSettings

    settings = ServiceSettings(
        event_types={
            name: event_type.positive
            for name, event_type in config.data.event_types.items()
        },
        history_length=config.features.history_length,
        policy=config.policy.model_dump_json(),
    )
    events = EventStore(layout.event_store)
    if redis_url is None:
        from serving.sqlite_profiles import SqliteProfiles

        profiles = SqliteProfiles(layout.events / "profiles.db")
        forward = None
    else:
        from serving.redis_connection import RedisConnection
        from serving.redis_events import RedisEvents
        from serving.redis_profiles import RedisProfiles

        connection = RedisConnection(redis_url)
        profiles = RedisProfiles(connection)
        events = RedisEvents(events, connection, settings.positive_types)
        forward = events.forward

    request_log = _request_log(layout, logged_share) if logged_share else None

    def keep_up() -> None:
        profiles.load(latest_release(layout.serving))
        if forward is not None:
            forward()

    return HttpFront(
        port,
        lambda calls: RecommendService(
            calls, profiles, events, settings, request_log=request_log
        ),
        lambda: latest_release(layout.serving),
        Upkeep(keep_up),
    )


def _request_log(layout: Layout, share: float) -> "RequestLog":
    from serving.model_config import Sampling
    from serving.request_log import RequestLog

    sampling = Sampling(share, str(layout.request_log / "recommender"))
    log = RequestLog(lambda model: sampling)
    atexit.register(log.close)  # what waits to be written when the server stops
    return log


class Upkeep:
    """Work that is tried again and again; says once when it begins to fail, and to go.

    A store that is down must not keep the models from being served: whoever needs the
    store is told by each answer.
    """

    def __init__(self, work: Callable[[], None]):
        self._work = work
        self._is_failing = False

    def __call__(self) -> None:
        try:
            self._work()
        except StoreUnavailableError as error:
            if not self._is_failing:
                _LOG.warning("%s", error)
            self._is_failing = True
            return
        if self._is_failing:
            _LOG.warning("the store of profiles and events answers again")
        self._is_failing = False
