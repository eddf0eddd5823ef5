"""Every emitted row against the oracle, and the leaks that the comparison must catch."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import rows as rows_module
from components.ingestion import tables
from components.ingestion.parsing import parse_events
from components.ingestion.profiles import user_profiles
from components.ingestion.raw_batch import RawBatch, column
from components.ingestion.rows import ShardRows
from components.ingestion.settings import Format
from components.ingestion.shard import shard_events
from components.ingestion.sources import SourceFile, column_maps
from components.ingestion.splits import split_cuts
from schemas import history as history_module
from schemas.events import items_schema, users_schema
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_world as world

FILE = SourceFile("events", 0, "log.jsonl", Format.JSONL)


def raw_batch(records):
    names = dict.fromkeys(name for record in records for name in record)
    return RawBatch(
        {name: column([record.get(name) for record in records]) for name in names},
        np.arange(1, len(records) + 1),
        lambda row: json.dumps(records[row]),
        [],
    )


def replay(records, num_shards=1, settings=None):
    """Returns {(examples, split): {event_id: row}}, without Beam."""
    settings = settings or world.settings()
    maps = column_maps(settings, world.CATALOG)
    accepted, _ = parse_events(
        raw_batch(records), maps["events"], settings, world.CATALOG, FILE
    )
    unique = tables.without_duplicates(accepted, ("event_id", "timestamp"))
    cuts = split_cuts(unique["timestamp"].to_numpy(), settings.split)
    items = world.items_table().select(items_schema(world.CATALOG).names)
    users = world.users_table().select(users_schema(world.CATALOG).names)
    out = {
        (name, split): {}
        for name in ("interactions", "impressions")
        for split in ("train", "eval", "test")
    }
    by_user = dict(tables.partition(users, "user_id", num_shards))
    for shard, part in tables.partition(unique, "user_id", num_shards):
        shard_rows = ShardRows(
            shard_events(part, settings, cuts.last + 1),
            by_user.get(shard, users.slice(0, 0)),
            items.cast(items_schema(world.CATALOG)),
            settings,
            world.CATALOG,
        )
        for chunk in shard_rows.chunks(cuts, chunk_rows=2):
            masks = {
                "interactions": chunk.is_interaction,
                "impressions": chunk.is_impression,
            }
            for name, mask in masks.items():
                for row in np.flatnonzero(mask):
                    example = oracle.decoded(chunk.examples[int(row)].as_py())
                    out[name, chunk.split][example["event_id"][0]] = example
    return out


def expected(records):
    return oracle.expected_rows(
        records,
        world.EVENT_TYPES,
        world.ITEMS,
        world.USERS,
        world.HISTORY_LENGTH,
        0.3,
        0.25,
    )


def check_replay(records, num_shards=1):
    """The checker: what comes out is what the oracle says, row for row."""
    assert replay(records, num_shards) == expected(records)


@st.composite
def logs(draw):
    # Few users, items and moments, so that ties, repeats and full histories are common.
    count = draw(st.integers(1, 24))
    return [
        {
            "event_id": f"e{draw(st.integers(0, 20))}",
            "timestamp": draw(st.integers(0, 6)),
            "user_id": f"u{draw(st.integers(0, 2))}",
            "item_id": f"i{draw(st.integers(0, 4))}",
            "event_type": draw(st.sampled_from([*world.EVENT_TYPES, "unheard_of"])),
            "value": draw(st.sampled_from([1.0, 4.0, 5.0])),
            "position": draw(st.none() | st.integers(0, 300)),
            "propensity": draw(st.sampled_from([None, 0.25, 1.0])),
        }
        for _ in range(count)
    ]


@hypothesis_settings(max_examples=150, deadline=None)
@given(records=logs(), num_shards=st.integers(1, 3))
def test_every_row_equals_the_oracle(records, num_shards):
    check_replay(records, num_shards)


BASKET = [
    world.event("a", timestamp=1, item_id="i0"),
    world.event("b", timestamp=2, item_id="i1"),
    world.event("c", timestamp=2, item_id="i2"),
    world.event("d", timestamp=3, item_id="i0", event_type="impression"),
    world.event("e", timestamp=3, item_id="i1", user_id="u1"),
    world.event("f", timestamp=4, item_id="i2"),
    world.event("g", timestamp=5, item_id="i3"),
    world.event("h", timestamp=6, item_id="i0", user_id="u1"),
]


def test_basket_lines_do_not_see_each_other():
    check_replay(BASKET)
    found = {k: v for split in replay(BASKET).values() for k, v in split.items()}
    assert found["b"]["history_item_ids"] == found["c"]["history_item_ids"] == ["i0"]
    assert found["d"]["history_item_ids"] == ["i0", "i1", "i2"]
    # `d` is an impression: it has a history and enters none.
    assert found["f"]["history_item_ids"] == ["i0", "i1", "i2"]


def inclusive(users, timestamps, positive, length):
    """The leak of `<=`: a row sees what shares its timestamp, itself included."""
    end = np.empty(len(users), np.int64)
    start = np.empty(len(users), np.int64)
    for i in range(len(users)):
        seen = (users == users[i]) & (timestamps <= timestamps[i])
        end[i] = np.count_nonzero(positive & ((users < users[i]) | seen))
        start[i] = max(np.count_nonzero(positive & (users < users[i])), end[i] - length)
    return start, end


def earlier_rows(users, timestamps, positive, length):
    """The leak of row order: basket lines above are seen."""
    return history_module.history_spans(
        users, np.arange(len(timestamps)), positive, length
    )


def across_users(users, timestamps, positive, length):
    """Forgets where a user begins."""
    _, end = history_module.history_spans(users, timestamps, positive, length)
    return np.maximum(0, end - length), end


def oldest_kept(users, timestamps, positive, length):
    """Keeps the first events rather than the latest."""
    start, _ = history_module.history_spans(users, timestamps, positive, 10**6)
    _, end = history_module.history_spans(users, timestamps, positive, length)
    return start, np.minimum(end, start + length)


def everything_positive(users, timestamps, positive, length):
    """Lets impressions count in the spans."""
    return history_module.history_spans(
        users, timestamps, np.ones_like(positive), length
    )


@pytest.mark.parametrize(
    "wrong", [inclusive, earlier_rows, across_users, oldest_kept, everything_positive]
)
def test_comparison_with_the_oracle_catches_planted_leaks(monkeypatch, wrong):
    monkeypatch.setattr(rows_module, "history_spans", wrong)
    with pytest.raises(AssertionError):
        check_replay(BASKET)


def mean_of_all(users, timestamps, labels, is_labelled, known_at):
    """The leak of the future: a row sees its user's later labels, and its own."""
    out = np.empty(len(users))
    for i in range(len(users)):
        mine = is_labelled & (users == users[i])
        out[i] = history_module.smoothed_mean(labels[mine].sum(), mine.sum())
    return out


def mean_up_to_now(users, timestamps, labels, is_labelled, known_at):
    """The leak of `<=`: a row's own label is in its feature."""
    out = np.empty(len(users))
    for i in range(len(users)):
        past = is_labelled & (users == users[i]) & (timestamps <= timestamps[i])
        out[i] = history_module.smoothed_mean(labels[past].sum(), past.sum())
    return out


def mean_of_unlabelled_too(users, timestamps, labels, is_labelled, known_at):
    return history_module.mean_labels(
        users, timestamps, labels, np.ones_like(is_labelled), known_at
    )


# A purchase has no label rule: it must not count in the mean that the click sees.
AFTER_PURCHASE = [
    *BASKET,
    world.event("bought", timestamp=10**6, event_type="purchase"),
    world.event("after", timestamp=10**6 + 1),
]


def test_mean_label_leaves_out_events_without_a_label_rule():
    check_replay(AFTER_PURCHASE)


@pytest.mark.parametrize("wrong", [mean_of_all, mean_up_to_now, mean_of_unlabelled_too])
def test_comparison_with_the_oracle_catches_leaking_statistics(monkeypatch, wrong):
    monkeypatch.setattr(rows_module, "mean_labels", wrong)
    with pytest.raises(AssertionError):
        check_replay(AFTER_PURCHASE)


def split_by_row_number(timestamps, cuts):
    return (np.arange(len(timestamps)) * 3 // len(timestamps)).astype(np.int8)


def cut_goes_earlier(timestamps, cuts):
    bounds = np.array([cuts.eval_from, cuts.test_from])
    return np.searchsorted(bounds, timestamps, side="left").astype(np.int8)


# Most rows share two moments, so a split that goes by rank alone parts them.
TIES = [
    world.event(f"t{row}", timestamp=moment)
    for row, moment in enumerate((1, 2, 2, 2, 2, 3, 3, 3, 3))
]


def test_splits_never_share_a_timestamp():
    check_replay(TIES)
    moments = {
        split: {row["timestamp"][0] for row in found.values()}
        for (name, split), found in replay(TIES).items()
        if name == "interactions"
    }
    assert moments == {"train": {1}, "eval": {2}, "test": {3}}


@pytest.mark.parametrize("wrong", [split_by_row_number, cut_goes_earlier])
def test_comparison_with_the_oracle_catches_wrong_splits(monkeypatch, wrong):
    monkeypatch.setattr(rows_module, "split_of", wrong)
    with pytest.raises(AssertionError):
        check_replay(TIES)


def test_label_rules():
    records = [
        world.event("low", event_type="rating", value=3.5),
        world.event("high", event_type="rating", value=4),
        world.event("bought", event_type="purchase"),
        world.event("muted", event_type="mute"),
    ]
    found = replay(records)

    def values(examples, key):
        return {
            event_id: row[key]
            for (name, _), rows in found.items()
            for event_id, row in rows.items()
            if name == examples
        }

    assert values("impressions", "label") == {
        "low": [0.0],
        "high": [1.0],
        "muted": [0.0],
    }
    assert values("interactions", "reward") == {
        "low": [1.0],
        "high": [1.0],
        "bought": [2.0],
    }


def test_profiles_hold_the_latest_history_of_every_user():
    events, _ = parse_events(
        raw_batch(BASKET),
        column_maps(world.settings(), world.CATALOG)["events"],
        world.settings(),
        world.CATALOG,
        FILE,
    )
    profiles = user_profiles(
        shard_events(events, world.settings(), 10**9),
        world.users_table(),
        world.CATALOG,
    )
    latest_mean = {
        user: oracle.mean_label(
            {"user_id": user, "timestamp": 10**9}, BASKET, world.EVENT_TYPES
        )
        for user in ("u0", "u1")
    }
    assert profiles.to_pylist() == [
        {
            "user_id": "quiet",
            "age": 64.0,
            "mean_label": 0.5,
            "history_item_ids": [],
            "seen_item_ids": [],
        },
        {
            "user_id": "u0",
            "age": 31.0,
            "mean_label": latest_mean["u0"],
            "history_item_ids": ["i2", "i2", "i3"],
            "seen_item_ids": ["i0", "i1", "i2", "i2", "i3"],
        },
        {
            "user_id": "u1",
            "age": None,
            "mean_label": latest_mean["u1"],
            "history_item_ids": ["i1", "i0"],
            "seen_item_ids": ["i1", "i0"],
        },
    ]


def test_rows_of_no_event_are_none():
    empty = pa.table(
        {
            name: pa.array([], kind)
            for name, kind in (
                ("event_id", pa.string()),
                ("timestamp", pa.int64()),
                ("user_id", pa.string()),
                ("item_id", pa.string()),
                ("event_type", pa.string()),
                ("value", pa.float64()),
                ("position", pa.int64()),
                ("propensity", pa.float64()),
                ("request_id", pa.string()),
            )
        }
    )
    events = shard_events(empty, world.settings(), 1)
    shard = ShardRows(
        events,
        world.users_table(),
        world.items_table(),
        world.settings(),
        world.CATALOG,
    )
    assert list(shard.chunks(split_cuts(np.array([]), world.settings().split))) == []
    profiles = user_profiles(events, world.users_table(), world.CATALOG)
    assert profiles["history_item_ids"].to_pylist() == [[], [], []]


def test_basket_of_the_whole_catalogue_stops_no_ingestion():
    """Found by random logs: the draw had no item left, and the run ended there."""
    types = world.event_type_settings()
    types["click"] |= {"sampled_negatives": 2}
    settings = world.settings(event_types=types)
    records = [world.event(f"e{item}", item_id=item) for item in world.ITEMS]
    records.append(world.event("alone", timestamp=2000))
    found = {
        k: v
        for split in replay(records, settings=settings).values()
        for k, v in split.items()
    }
    assert set(found) == {*(r["event_id"] for r in records), "alone~1", "alone~2"}
    assert {found[f"alone~{j}"]["item_id"][0] for j in (1, 2)} <= {"i1", "i2"}
