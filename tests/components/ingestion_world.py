"""A small service for the ingestion tests: LINE's event types and rated films."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion.output import OutputPaths
from components.ingestion.settings import DataSettings
from schemas.features import FeatureCatalog

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


def event_type_settings():
    """Returns EVENT_TYPES as a config writes them."""
    out = {}
    for name, kind in EVENT_TYPES.items():
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


def event(event_id="e", **changes):
    """Returns a well-formed record."""
    return {
        "event_id": event_id,
        "timestamp": 1000,
        "user_id": "u0",
        "item_id": "i0",
        "event_type": "click",
    } | changes


def items_table():
    return pa.table(
        {
            "item_id": list(ITEMS),
            "genres": pa.array([v["genres"] for v in ITEMS.values()]),
            "title": [v["title"] for v in ITEMS.values()],
        }
    )


def users_table():
    return pa.table({"user_id": list(USERS), "age": [v["age"] for v in USERS.values()]})


def write(folder, lines, name="events.jsonl"):
    """Writes a log (records or raw text lines) and both side tables."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("".join(text + "\n" for text in texts))
    pq.write_table(items_table(), folder / "items.parquet")
    pq.write_table(users_table(), folder / "users.parquet")


def output_paths(folder):
    names = ("interactions", "impressions", "catalog", "profiles", "dead_letters")
    return OutputPaths(*(str(folder / name) for name in (*names, "summary")))
