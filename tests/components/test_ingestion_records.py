"""Files of records that are no lines, and files that cannot be read."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.ingestion import tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.parsing import parse_events
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile
from tests.components import ingestion_world as world
from tests.components.ingestion_reading import (
    COLUMNS,
    SETTINGS,
    as_read,
    batches,
    plain,
)


def test_tfrecords_that_are_empty_or_of_one_brace(tmp_path):
    """A tf.Example of 123 bytes begins with a line feed and a brace."""
    tf_example = pytest.importorskip("tensorflow.core.example.example_pb2")
    example = tf_example.Example()
    example.features.feature["event_id"].bytes_list.value.append(b"a")
    padding = example.features.feature["user_id"].bytes_list.value
    padding.append(b"")
    while example.features.ByteSize() < 123:
        padding[0] += b"u"
    record = example.SerializeToString()
    assert record.startswith(b"\n{")
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"".join(map(tfrecord.framed, [record, b"", b"{}", b"{oops"])))
    found = as_read(batches(path, Format.TFRECORD))
    assert found[1][0]["event_id"] == "'a'"
    assert [found[i][0] for i in (2, 3, 4)] == [{}, {}, None]


def test_tfrecord_with_line_ends_within_is_one_record(tmp_path):
    path = tmp_path / "a.tfrecord"
    texts_ = [
        json.dumps(world.event("a"), indent=1),
        json.dumps(world.event("b")) + "\n",
    ]
    path.write_bytes(b"".join(tfrecord.framed(text.encode()) for text in texts_))
    found = as_read(batches(path, Format.TFRECORD))
    assert [found[i][1] for i in (1, 2)] == texts_
    assert [found[i][0]["event_id"] for i in (1, 2)] == ["'a'", "'b'"]


# Parquet holds what Python does not.
def test_parquet_values_that_python_cannot_hold_are_dead_letters(tmp_path):
    offsets = pa.py_buffer(np.array([0, 1, 2, 3, 4], np.int32))
    not_utf8 = pa.Array.from_buffers(
        pa.string(), 4, [None, offsets, pa.py_buffer(b"a\xffbc")]
    )
    table = pa.table(
        {
            "event_id": not_utf8,
            "timestamp": pa.array([1, 1, 2**62, None], pa.timestamp("us")),
            "user_id": pa.array([b"u", b"\xff", b"u", b"u"]),
            "item_id": pa.array(["i"] * 4).dictionary_encode(),
            "event_type": ["click"] * 4,
        }
    )
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    (batch,) = batches(path, Format.PARQUET)
    file = SourceFile("events", 0, str(path), Format.PARQUET)
    accepted, dead = parse_events(batch, COLUMNS, SETTINGS, world.CATALOG, file)
    assert accepted["event_id"].to_pylist() == ["a"]
    assert [(x.position, x.field) for x in dead] == [
        (2, "event_id"),
        (3, "timestamp"),
        (4, "timestamp"),
    ]
    assert [json.loads(x.raw)["item_id"] for x in dead] == ["i"] * 3


def test_parquet_that_is_compressed_as_a_whole_is_unpacked(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([world.event("a")]), path)
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (batch,) = batches(packed, Format.PARQUET)
    assert plain(batch.columns["event_id"]) == ["a"]
    packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
    with pytest.raises(IngestionError, match="cannot be read as Parquet"):
        batches(packed, Format.PARQUET)


def test_file_that_is_not_there_is_an_error():
    for kind in Format.JSONL, Format.CSV, Format.PARQUET, Format.TFRECORD:
        with pytest.raises(IngestionError, match="cannot open"):
            batches("/nowhere/a.jsonl", kind)
