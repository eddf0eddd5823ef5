"""Whoever does the benchmark's job writes the rows of the tests' slow oracle."""

import importlib.util
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ingest_job
from benchmarks.ingest_rows import read_records
from benchmarks.peers import row_writer, tf_example
from tests.benchmarks import small_log
from tests.components import ingestion_oracle as oracle

ROOT = Path(__file__).parents[2]
MODULES = {
    "tandem": "benchmarks.ingest_tandem",
    "beam": "benchmarks.peers.ingest_beam",
    "polars": "benchmarks.peers.ingest_polars",
    "duckdb": "benchmarks.peers.ingest_duckdb",
}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return small_log.write(tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def expected(log):
    return small_log.expected(log)


def test_log_has_rows_of_every_kind(expected):
    _, rows = expected
    assert all(rows.values())
    labels = [row["label"] for row in rows["impressions", "train"].values()]
    assert {label for (label,) in labels} == {0.0, 1.0}
    lengths = [len(r["history_item_ids"]) for r in rows["impressions", "test"].values()]
    assert max(lengths) > 3


@pytest.mark.component
@pytest.mark.parametrize("who", MODULES)
def test_each_writes_the_oracles_rows(who, log, expected, tmp_path):
    if who in ("polars", "duckdb") and importlib.util.find_spec(who) is None:
        pytest.skip(f"{who} is not installed; the benchmark brings its own")
    arguments = [str(log), str(tmp_path)]
    if who == "tandem":
        arguments.append("--runner=FnApiRunner")
    process = subprocess.run(
        [sys.executable, "-m", MODULES[who], *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    account = json.loads(process.stdout.splitlines()[-1])
    done, rows = expected
    counts = done.by_span[""]
    assert {key: account[key] for key in counts} == dict(counts)
    assert account["read"] == small_log.RECORDS
    assert account["rows"] == {"/".join(key): len(rows[key]) for key in rows}
    assert small_log.found(tmp_path, read_records) == rows


def check_row_writer(log, out):
    """Checks the rows that `row_writer` makes of events joined by hand."""
    done, rows = small_log.expected(log)
    accepted = sorted(
        done.accepted, key=lambda e: (e["user_id"], e["timestamp"], e["event_id"])
    )
    users = sorted({event["user_id"] for event in accepted})
    items = sorted({event["item_id"] for event in accepted})
    names = list(small_log.EVENT_TYPES)
    labels = {
        name: row["label"] + row["reward"]
        for split in ("train", "eval", "test")
        for name, row in rows["impressions", split].items()
    }
    outcome = {(0.0, 0.5): 0, (1.0, 1.0): 1, (0.0, 0.0): 2}
    types = [names.index(event["event_type"]) for event in accepted]
    row_writer.write_rows(
        row_writer.Events(
            event_ids=[event["event_id"] for event in accepted],
            request_ids=[event["request_id"] for event in accepted],
            timestamps=np.array([event["timestamp"] for event in accepted]),
            user_of=np.array([users.index(event["user_id"]) for event in accepted]),
            item_of=np.array([items.index(event["item_id"]) for event in accepted]),
            types=np.array(types),
            positions=np.array(
                [-1 if e["position"] is None else e["position"] for e in accepted]
            ),
            propensities=np.array([e["propensity"] for e in accepted], dtype=float),
            outcomes=np.array(
                [
                    outcome[tuple(labels[event["event_id"]])]
                    if event["event_id"] in labels
                    else kind
                    for event, kind in zip(accepted, types, strict=True)
                ]
            ),
            users=users,
            items=items,
            user_features=small_log.table_of(log, "user"),
            item_features=small_log.table_of(log, "item"),
        ),
        out,
    )
    assert small_log.found(out, read_records) == rows


def test_row_writer_writes_the_oracles_rows(log, tmp_path):
    check_row_writer(log, tmp_path)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        (ingest_job, "HISTORY_LENGTH", 2),
        (ingest_job, "WINDOW_MS", 0),
        (ingest_job, "TEST_FRACTION", 0.3),
        (tf_example, "_FLOAT", struct.Struct(">f")),
    ],
    ids=["shorter histories", "no window", "another split", "bytes turned"],
)
def test_check_of_the_row_writer_rejects(
    log, tmp_path, monkeypatch, place, name, value
):
    monkeypatch.setattr(place, name, value)
    with pytest.raises((AssertionError, IndexError)):
        check_row_writer(log, tmp_path)


def test_records_are_framed_as_tensorflow_reads_them(tmp_path):
    import tensorflow as tf

    path = tmp_path / "x.gz"
    writer = tf_example.RecordWriter(path)
    entries = [
        tf_example.text_entry("name", "n" * size)
        + tf_example.int_entry("moment", 1_767_225_600_000 + size)
        + tf_example.float_entry("share", 0.25)
        + tf_example.list_entry("tags", ["a", "bé"])
        for size in (1, 100, 20_000)
    ]
    assert writer.write(entries) == 3
    writer.close()
    dataset = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    rows = [oracle.decoded(record) for record in dataset.as_numpy_iterator()]
    assert rows == [
        {
            "name": ["n" * size],
            "moment": [1_767_225_600_000 + size],
            "share": [0.25],
            "tags": ["a", "bé"],
        }
        for size in (1, 100, 20_000)
    ]


def test_split_cuts_leave_a_moment_whole():
    assert ingest_job.split_cuts([]) == (0, 0)
    assert ingest_job.split_cuts([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) == (8, 9)
    # The eleventh share falls within the moment 5, which goes to test as a whole.
    assert ingest_job.split_cuts([1, 2, 3, 4, 5, 5, 5, 5, 5, 5]) == (5, 5)
