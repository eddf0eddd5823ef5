"""The wire format: TensorFlow's own parser and reader judge it."""

import io

import pyarrow as pa
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import encoding, tfrecord
from components.ingestion.output import write_records
from tests.components.ingestion_oracle import decoded

LONG = "x" * 20_000  # lengths of one, two and three bytes


def one(entries):
    """Returns the only row of a column of entries, as TensorFlow reads it."""
    (example,) = encoding.examples(entries).to_pylist()
    return decoded(example)


def check_encoding(varint):
    """The checker: what is written is what TensorFlow reads."""
    entries = encoding.concat(
        encoding.text_entries("text", pa.array([LONG])),
        encoding.text_entries("gone", pa.array([None], pa.string())),
        encoding.list_entries("many", pa.array([["a", "", "é" * 70]])),
        encoding.list_entries("none", pa.array([[]], pa.list_(pa.string()))),
        encoding.float_entries("number", pa.array([0.25])),
        encoding.float_entries("nothing", pa.array([None], pa.float64())),
        encoding.float_list_entries("vector", pa.array([[0.5] * 40])),
        encoding.float_list_entries(
            "nowhere", pa.array([None], pa.list_(pa.float32()))
        ),
        encoding.int_entries("when", pa.array([1_700_000_000_123])),
        encoding.int_entries("never", pa.array([None], pa.int64())),
        encoding.bytes_entries("empty", pa.array([b""], pa.binary())),
    )
    assert one(entries) == {
        "text": [LONG],
        "many": ["a", "", "é" * 70],
        "number": [0.25],
        "vector": [0.5] * 40,
        "when": [1_700_000_000_123],
        "empty": [],
    }
    for value in (0, 1, 127, 128, 300, 2**14, 2**32, 2**62):
        assert one(encoding.int_entries("n", pa.array([value]))) == {"n": [value]}
    assert varint(300) == b"\xac\x02"  # the example of the protobuf manual
    assert varint(2**14) == b"\x80\x80\x01"


def test_encoding():
    check_encoding(encoding.varint)


RIGHT = encoding.varint  # as it was before a test replaces it


def big_endian(value):
    return RIGHT(value)[::-1]


def one_byte(value):
    return bytes([value & 0x7F])


@pytest.mark.parametrize("wrong", [big_endian, one_byte])
def test_encoding_checker_rejects(monkeypatch, wrong):
    monkeypatch.setattr(encoding, "varint", wrong)
    with pytest.raises((AssertionError, DecodeError)):
        check_encoding(wrong)


TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300)
VALUES = {
    "text": TEXT,
    "many": st.lists(TEXT, min_size=1, max_size=5),
    "number": st.floats(width=32, allow_nan=False),
    "vector": st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40),
    "whole": st.integers(0, 2**63 - 1),
}
ENTRIES = {
    "text": (encoding.text_entries, pa.string()),
    "many": (encoding.list_entries, pa.list_(pa.string())),
    "number": (encoding.float_entries, pa.float64()),
    "vector": (encoding.float_list_entries, pa.list_(pa.float32())),
    "whole": (encoding.int_entries, pa.int64()),
}


def encoded(rows):
    """Encodes rows of named values, each of which a row may lack."""
    columns = [
        make(name, pa.array([row.get(name) for row in rows], kind))
        for name, (make, kind) in ENTRIES.items()
    ]
    return encoding.examples(encoding.concat(*columns)).to_pylist()


def check_rows_survive(encode, rows):
    """The checker: each row comes back with its own values and no others."""
    listed = [
        {k: v if isinstance(v, list) else [v] for k, v in row.items()} for row in rows
    ]
    are_equal = [decoded(example) for example in encode(rows)] == listed
    assert are_equal


@hypothesis_settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({}, optional=VALUES), max_size=6))
def test_any_rows_survive(rows):
    check_rows_survive(encoded, rows)


def of_the_row_below(rows):
    return encoded([*rows[1:], rows[0]])


def nulls_as_zero(rows):
    return encoded([{"whole": 0} | row for row in rows])


@pytest.mark.parametrize("wrong", [of_the_row_below, nulls_as_zero])
def test_row_checker_rejects(wrong):
    rows = [{"text": "a", "whole": 1}, {"many": ["b", "c"]}, {"number": 0.5}]
    check_rows_survive(encoded, rows)
    with pytest.raises(AssertionError):
        check_rows_survive(wrong, rows)


def test_slices_of_columns_are_encoded():
    lists = pa.array([["far"], ["a", "b"], None, ["c"]]).slice(1)
    texts = pa.array(["far", "a", None, "ccc"]).slice(1)
    vectors = pa.array([[9.0], [1.0, 2.0], [3.0], None]).slice(1)
    columns = (
        encoding.list_entries("l", lists),
        encoding.text_entries("t", texts),
        encoding.float_list_entries("v", vectors),
    )
    examples = encoding.examples(encoding.concat(*columns)).to_pylist()
    assert [decoded(example) for example in examples] == [
        {"l": ["a", "b"], "t": ["a"], "v": [1.0, 2.0]},
        {"v": [3.0]},
        {"l": ["c"], "t": ["ccc"]},
    ]


def test_tensorflow_reads_our_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    records = [b"", b"one", b"\xff" * 100_000]
    path = str(tmp_path / "x" / "records.gz")
    write_records(path, pa.array(records, pa.binary()))
    dataset = tf.data.TFRecordDataset(path, "GZIP")
    assert [record.numpy() for record in dataset] == records
    write_records(path, pa.array([], pa.binary()))
    assert list(tf.data.TFRecordDataset(path, "GZIP")) == []


def test_we_read_tensorflows_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"one")
        writer.write(b"two")
    with open(path, "rb") as handle:
        assert list(tfrecord.read_records(handle)) == [b"one", b"two"]


def test_records_framed_together_are_those_framed_alone():
    records = [b"", b"one", b"\xff" * 70_000, b"one"]
    together = tfrecord.framed_all(pa.array([b"far", *records], pa.binary()).slice(1))
    alone = b"".join(tfrecord.framed(record) for record in records)
    assert together.to_pybytes() == alone
    assert list(tfrecord.read_records(io.BytesIO(alone))) == records


@pytest.mark.parametrize("at", [0, 8, 12, 15])
def test_any_flipped_bit_is_seen(at):
    frame = bytearray(tfrecord.framed(b"abc"))
    frame[at] ^= 1
    with pytest.raises(tfrecord.CorruptRecordError):
        list(tfrecord.read_records(io.BytesIO(bytes(frame))))
