"""An inferred schema accepts what it was inferred from, and refuses what is poisoned."""

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from components.feature_statistics import statistics_options
from components.infer_schema import infer_schema
from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings
from schemas.features import FeatureCatalog

pytestmark = pytest.mark.component  # TFDV takes seconds to load

CATALOG = FeatureCatalog.model_validate(
    {
        "user": [
            {"name": "age", "kind": "numeric"},
            {"name": "city", "kind": "categorical"},
            {"name": "plan", "kind": "categorical"},
        ],
        "item": [
            {"name": "title", "kind": "text"},
            {"name": "genres", "kind": "multi_categorical"},
            {"name": "mood", "kind": "vector", "size": 3},
            {"name": "cast", "kind": "multi_categorical", "weights": "minutes"},
        ],
        "context": [{"name": "seed", "kind": "item_id"}],
        "user_statistics": ["mean_label"],
        "history_length": 5,
    }
)
FIRST_MS = 1_700_000_000_000  # 2023-11-14
ROWS = {"train": 300, "eval": 40, "test": 80}


def settings(**changes):
    declared = {
        "events": {"path": "logs/events.jsonl"},
        "event_types": {
            "show": {"reward": 0.0, "positive": False, "label": 0},
            "click": {"reward": 1.0, "label": 1, "answers": "show"},
        },
    }
    return DataSettings.model_validate(declared | changes)


def frame(split, **poison):
    """Returns rows of a split as a data frame, with columns replaced."""
    number = ROWS[split]
    offset = {"train": 0, "eval": 300, "test": 340}[split]
    # A city more with each 100 users; the plans stay the same two.
    columns = {
        "event_id": [f"{split}{row}" for row in range(number)],
        "user_id": [f"u{row % 50}" for row in range(number)],
        "item_id": [f"i{row % 30}" for row in range(number)],
        "timestamp": [FIRST_MS + 1000 * (offset + row) for row in range(number)],
        "event_type": ["show"] * number,
        "label": [float(row % 2) for row in range(number)],
        "reward": [float(row % 2) for row in range(number)],
        "history_item_ids": [["i1"] * (row % 6) for row in range(number)],
        "propensity": [0.5 if row % 10 else None for row in range(number)],
        "user_age": [20.0 + row % 40 for row in range(number)],
        "user_city": [f"c{(offset + row) // 100}" for row in range(number)],
        "user_plan": [("free", "paid")[row % 2] for row in range(number)],
        "user_mean_label": [0.5] * number,
        "item_title": [f"Film {row % 30}" for row in range(number)],
        "item_genres": [["war", "drama"][: 1 + row % 2] for row in range(number)],
        "item_mood": [[0.5, -1.0, row / 9] for row in range(number)],
        "item_cast": [["ann", "bob"][: 1 + row % 2] for row in range(number)],
        "item_minutes": [[9.0, 0.0][: 1 + row % 2] for row in range(number)],
        "context_seed": [f"i{row % 30}" for row in range(number)],
    }
    for key, change in poison.items():
        columns[key] = [change(value) for value in columns[key]]
    return pd.DataFrame(columns)


def statistics(split, **poison):
    options = statistics_options()
    return tfdv.generate_statistics_from_dataframe(frame(split, **poison), options)


@pytest.fixture(scope="module")
def clean():
    return {split: statistics(split) for split in ROWS}


@pytest.fixture(scope="module")
def inferred(clean):
    return infer_schema(clean, settings(), CATALOG, ("films", "logs/events.jsonl"))


def objections(schema, found):
    anomalies = tfdv.validate_statistics(found, schema)
    assert not anomalies.HasField("dataset_anomaly_info")
    return set(anomalies.anomaly_info)


def test_schema_accepts_the_log_it_came_from(inferred, clean):
    for found in clean.values():
        assert objections(inferred.schema, found) == set()
    assert inferred.rows == ROWS["train"]


def every(number, bad):
    """Returns what replaces every so manieth value."""
    seen = iter(range(10**6))
    return lambda value: bad if next(seen) % number == 0 else value


POISONS = {
    "event_id": lambda: every(9, None),
    "user_id": lambda: every(9, None),
    "item_id": lambda: every(9, None),
    "timestamp": lambda: lambda value: value // 1000,
    "event_type": lambda: every(9, "shown"),
    "label": lambda: every(9, 1.5),
    "reward": lambda: every(9, -1.0),
    "propensity": lambda: every(9, 0.0),
    "history_item_ids": lambda: every(9, ["i1"] * 6),
    "user_age": lambda: every(2, None),
    "user_plan": lambda: every(9, "stolen"),
    "user_mean_label": lambda: every(9, 2.0),
    "item_title": lambda: every(2, None),
    "item_genres": lambda: every(9, ["War?"]),
    "item_mood": lambda: every(9, [0.5, -1.0]),
    "item_minutes": lambda: every(9, [-1.0]),
    "context_seed": lambda: every(2, None),
}


@pytest.mark.parametrize("key", POISONS)
def test_schema_refuses_what_is_poisoned(inferred, key):
    poisoned = statistics("test", **{key: POISONS[key]()})
    assert objections(inferred.schema, poisoned) == {key}


def test_column_that_nobody_declared_is_refused(inferred):
    rows = frame("test").assign(item_colour="red")
    found = tfdv.generate_statistics_from_dataframe(rows, statistics_options())
    assert objections(inferred.schema, found) == {"item_colour"}


def test_set_that_grows_with_time_is_open_ended(inferred):
    assert inferred.open_ended == ("user_city",)
    assert inferred.domains == ("user_plan", "item_genres", "item_cast")
    new = statistics("test", user_city=lambda city: city + "!")
    assert objections(inferred.schema, new) == set()


def test_the_newer_kinds_say_in_the_file_what_they_hold(inferred):
    assert "# One for each value of `item_cast`." in inferred.text
    assert "# An item's id. Open-ended: no domain." in inferred.text
    count = feature(inferred.schema, "item_mood").value_count
    assert (count.min, count.max) == (3, 3)


def feature(schema, key):
    (found,) = (feature for feature in schema.feature if feature.name == key)
    return found


def test_only_keys_in_every_row_become_dense(inferred):
    dense = {f.name for f in inferred.schema.feature if f.HasField("shape")}
    assert dense == {
        "event_id",
        "user_id",
        "item_id",
        "timestamp",
        "event_type",
        "label",
        "reward",
    }


def test_presence_is_as_seen_with_some_slack(inferred):
    def least(key):
        return feature(inferred.schema, key).presence.min_fraction

    assert least("propensity") == pytest.approx(0.85)  # 0.95 of 0.9, rounded down
    assert least("user_age") == pytest.approx(0.95)
    assert least("user_mean_label") == 1
    assert least("value") == 0  # never there, and may come


def test_domain_of_event_types_is_the_configs(inferred):
    (domain,) = (d for d in inferred.schema.string_domain if d.name == "event_type")
    assert list(domain.value) == ["click", "show"]


def test_session_start_is_required_where_sessions_are_asked_for(clean, inferred):
    assert not feature(inferred.schema, "session_start").HasField("shape")
    asked = infer_schema(
        clean, settings(session_gap_minutes=30), CATALOG, ("films", "log")
    )
    assert feature(asked.schema, "session_start").HasField("shape")


def test_file_says_where_it_came_from_and_reads_back(inferred):
    assert text_format.Parse(inferred.text, schema_pb2.Schema()) == inferred.schema
    comments = [line for line in inferred.text.splitlines() if line.startswith("#")]
    head = " ".join(line.strip("# ") for line in comments)
    assert "rows of `films`" in head
    assert 'train split (2023-11-14 to 2023-11-14) of "logs/events.jsonl"' in head
    assert "train 300, eval 40, test 80" in head


def test_path_cannot_leave_its_comment(clean):
    odd = infer_schema(
        clean, settings(), CATALOG, ("films", "a\nfeature { name: 'x' }")
    )
    assert text_format.Parse(odd.text, schema_pb2.Schema()) == odd.schema
    assert "x" not in {feature.name for feature in odd.schema.feature}


def test_log_without_labelled_rows_says_what_is_missing():
    empty = tfdv.generate_statistics_from_dataframe(pd.DataFrame())
    with pytest.raises(IngestionError, match="0 rows of the train split have a label"):
        infer_schema(dict.fromkeys(ROWS, empty), settings(), CATALOG, ("films", "log"))


@pytest.mark.parametrize("key", ["timestamp", "label", "reward", "propensity"])
def test_what_tfdv_infers_by_itself_lets_poison_pass(clean, key):
    """Why the schema is tightened at all."""
    loose = tfdv.infer_schema(clean["train"])
    poisoned = statistics("test", **{key: POISONS[key]()})
    assert key not in objections(loose, poisoned)
