"""Small services for the ingestion tests: LINE's event types and rated films.

The plain one (EVENT_TYPES) has one row for each event. The full one (FULL) declares all
that a service can: responses, sampled negatives, sessions, caps, spans, context.
"""

import datetime
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion.output import OutputPaths
from components.ingestion.settings import DataSettings
from schemas.features import FeatureCatalog
from tests.components.ingestion_account import Declared

EVENT_TYPES = {
    "impression": {"reward": 0.5, "positive": False, "label": 0.0},
    "click": {"reward": 1.0, "positive": True, "label": 1.0},
    "mute": {"reward": 0.0, "positive": False, "label": 0.0},
    "purchase": {"reward": 2.0, "positive": True},
    "rating": {"reward": 1.0, "positive": True, "at_least": 4.0},
}
ITEMS = {
    "i0": {"genres": ["drama", "war"], "title": "The Zeroth"},
    "i1": {"genres": [], "title": None},
    "i2": {"genres": ["comedy"], "title": "Deux"},
}
USERS = {"u0": {"age": 31.0}, "u1": {"age": None}, "quiet": {"age": 64.0}}
HISTORY_LENGTH = 3
CATALOG = FeatureCatalog.model_validate(
    {
        "user": [{"name": "age", "kind": "numeric"}],
        "item": [
            {"name": "genres", "kind": "multi_categorical"},
            {"name": "title", "kind": "text"},
        ],
        "history_length": HISTORY_LENGTH,
        "user_statistics": ["mean_label"],
    }
)

# `mute` stands before `click`: of several responses it counts first. A banner is both
# an impression and an interaction, and its response is declared before it.
FULL_EVENT_TYPES = {
    "impression": {"reward": 0.5, "positive": False, "label": 0.0},
    "mute": {"reward": 0.0, "positive": False, "label": 0.0, "answers": "impression"},
    "click": {"reward": 1.0, "positive": True, "label": 1.0, "answers": "impression"},
    "like": {
        "reward": 3.0,
        "positive": True,
        "at_least": 4.0,
        "answers": "impression",
    },
    "tap": {"reward": 4.0, "positive": False, "label": 1.0, "answers": "banner"},
    "banner": {
        "reward": 0.25,
        "positive": True,
        "label": 0.0,
        "sampled_negatives": 1,
    },
    "play": {"reward": 1.0, "positive": True, "label": 1.0, "sampled_negatives": 2},
    "rating": {"reward": 1.0, "positive": True, "at_least": 4.0},
    "purchase": {"reward": 2.0, "positive": True},
}
FULL_ITEMS = {
    **ITEMS,
    "i5": {"genres": ["war"], "title": "Cinq"},
    "i6": {"genres": [], "title": "Six"},
    "i7": {"genres": ["comedy", "war"], "title": None},
}
MINUTE = 60_000
NOWHERE = pathlib.Path("unused")
FULL = Declared(
    FULL_EVENT_TYPES,
    FULL_ITEMS,
    USERS,
    context=("device", "hour"),
    history_length=HISTORY_LENGTH,
    window_ms=2 * MINUTE,
    max_early_ms=2 * MINUTE,
)
FULL_CATALOG = FeatureCatalog.model_validate(
    {
        **CATALOG.model_dump(mode="json"),
        "context": [
            {"name": "device", "kind": "categorical"},
            {"name": "hour", "kind": "numeric"},
        ],
    }
)


def event_type_settings(event_types=EVENT_TYPES):
    """Returns event types as a config writes them."""
    out = {}
    for name, kind in event_types.items():
        out[name] = {key: kind[key] for key in kind if key != "at_least"}
        if "at_least" in kind:
            out[name]["label_from_value"] = {"at_least": kind["at_least"]}
    return out


def settings(folder="unused", **changes):
    """Returns settings over `<folder>/events.jsonl`, items and users as Parquet."""
    declared = {
        "events": {"path": f"{folder}/events*.jsonl"},
        "items": {"path": f"{folder}/items.parquet"},
        "users": {"path": f"{folder}/users.parquet"},
        "event_types": event_type_settings(),
        "split": {"test_fraction": 0.3, "eval_fraction": 0.25},
        "shards": 3,
    }
    return DataSettings.model_validate(declared | changes)


def settings_of(declared, folder="unused", **changes):
    """Returns the settings that declare what `declared` holds."""
    minutes = {
        "response_window_minutes": declared.window_ms,
        "session_gap_minutes": declared.session_gap_ms,
    }
    closed_at = declared.closed_at
    if closed_at is not None:
        closed_at = iso(closed_at)
    return settings(
        folder,
        event_types=event_type_settings(declared.event_types),
        split={
            "test_fraction": declared.test_fraction,
            "eval_fraction": declared.eval_fraction,
        },
        closed_at=closed_at,
        max_events_per_user_per_day=declared.daily_cap,
        spans={
            "max_late_days": declared.max_late_days,
            "max_early_minutes": declared.max_early_ms // MINUTE,
        },
        **{key: ms and ms / MINUTE for key, ms in minutes.items()},
        **({"items": None} if declared.items is None else {}),
        **changes,
    )


def iso(ms):
    """Returns a moment as ISO 8601, to the millisecond."""
    start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return (start + datetime.timedelta(milliseconds=ms)).isoformat()


def event(event_id="e", **changes):
    """Returns a well-formed record."""
    return {
        "event_id": event_id,
        "timestamp": 1000,
        "user_id": "u0",
        "item_id": "i0",
        "event_type": "click",
    } | changes


def items_table(items=ITEMS):
    return pa.table(
        {
            "item_id": list(items),
            "genres": pa.array([v["genres"] for v in items.values()]),
            "title": [v["title"] for v in items.values()],
        }
    )


def users_table():
    return pa.table({"user_id": list(USERS), "age": [v["age"] for v in USERS.values()]})


def line_of(record):
    return (record if isinstance(record, str) else json.dumps(record)) + "\n"


def write(folder, lines, name="events.jsonl", items=ITEMS):
    """Writes a log (records or raw text lines) and both side tables."""
    (folder / name).write_text("".join(line_of(record) for record in lines))
    pq.write_table(items_table(items), folder / "items.parquet")
    pq.write_table(users_table(), folder / "users.parquet")


def output_paths(folder):
    names = ("interactions", "impressions", "catalog", "profiles", "dead_letters")
    return OutputPaths(*(str(folder / name) for name in (*names, "summary")))
