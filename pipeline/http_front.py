"""The HTTP API of a root folder: its releases' profiles, its events, its config."""

from pathlib import Path

from pipeline.config import TandemConfig
from pipeline.layout import Layout
from serving.release_tables import latest_release
from serving.server import HttpFront


def http_front(root: Path, port: int) -> HttpFront | None:
    """Returns the API in front of a root's releases; None where no run left its config.

    Args:
        root: the root folder; receives `events/`, with what is shown and done.
        port: 0 takes a free one.
    """
    layout = Layout(root)
    if not layout.config.exists():
        return None
    config = TandemConfig.model_validate_json(layout.config.read_text())
    # These import TensorFlow's messages, which takes seconds.
    from serving.event_store import EventStore
    from serving.profiles import SqliteProfiles
    from serving.recommend_service import RecommendService, ServiceSettings

    events = EventStore(layout.event_store)
    profiles = SqliteProfiles(layout.events / "profiles.db")
    settings = ServiceSettings(
        event_types={
            name: event_type.positive
            for name, event_type in config.data.event_types.items()
        },
        history_length=config.features.history_length,
        policy=config.policy.model_dump_json(),
    )
    return HttpFront(
        port,
        lambda calls: RecommendService(calls, profiles, events, settings),
        lambda: latest_release(layout.serving),
        lambda: profiles.load(latest_release(layout.serving)),
    )
