"""A small log of the benchmark's generator, and its rows by the tests' slow oracle."""

import functools

import numpy as np
import pyarrow.parquet as pq

from benchmarks import event_log
from tests.components import ingestion_oracle as oracle
from tests.components.ingestion_account import Declared, LogFile, account

RECORDS = 600
EVENT_TYPES = {
    "impression": {"reward": 0.5, "label": 0.0, "positive": False},
    "click": {"reward": 1.0, "label": 1.0, "positive": True, "answers": "impression"},
    "mute": {"reward": 0.0, "label": 0.0, "positive": False, "answers": "impression"},
}


def is_bad(record):
    """Whether a record breaks a rule of the log's contract, rule by rule."""
    ids = [record[name] for name in ("event_id", "user_id", "item_id")]
    propensity, position = record["propensity"], record["position"]
    return (
        any(not value or not value.strip() or len(value) > 1024 for value in ids)
        or not 0 <= record["timestamp"] < 253_402_300_800_000
        or record["event_type"] not in EVENT_TYPES
        or (position is not None and position < 0)
        or (propensity is not None and not 0 < propensity <= 1)
    )


def write(folder):
    event_log.write_log(folder, RECORDS, seed=3)
    return folder


def records_of(folder):
    """Returns the records of each event file."""
    paths = sorted(folder.glob("events-*.parquet"))
    return [pq.read_table(path).to_pylist() for path in paths]


def table_of(folder, side):
    rows = pq.read_table(folder / f"{side}s.parquet").to_pylist()
    return {row.pop(f"{side}_id"): row for row in rows}


def expected(folder, **changes):
    """Returns (account, rows) of the log: (examples, split) -> event_id -> row."""
    files = [
        LogFile([None if is_bad(record) else record for record in records])
        for records in records_of(folder)
    ]
    values = {
        "items": table_of(folder, "item"),
        "users": table_of(folder, "user"),
        "history_length": 50,
        "test_fraction": 0.2,
        "eval_fraction": 0.1,
    }
    declared = Declared(EVENT_TYPES, **(values | changes))
    done = account(files, declared)
    rows = oracle.replay(done.accepted, declared, done.closed_at).rows
    return done, {
        key: {name: comparable(row) for name, row in split.items()}
        for key, split in rows.items()
    }


def found(out, read_records):
    """Returns the rows in a folder, as `expected` has them."""
    rows = {}
    for name in ("interactions", "impressions"):
        for split in ("train", "eval", "test"):
            rows[name, split] = {}
            for path in (out / name / f"Split-{split}").iterdir():
                for record in read_records(path):
                    row = comparable(oracle.decoded(record))
                    assert row["event_id"][0] not in rows[name, split]
                    rows[name, split][row["event_id"][0]] = row
    return rows


@functools.cache
def single(value):
    return float(np.float32(value))


def comparable(row):
    """Returns a row with its numbers as a tf.Example holds them."""
    return {
        key: [single(v) if isinstance(v, float) else v for v in values]
        for key, values in row.items()
        if key != "user_mean_label"  # of the oracle; nobody asked for it here
    }
