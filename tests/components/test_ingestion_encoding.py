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


def check_encoding(varint):
    """The checker: what is written is what TensorFlow reads."""
    entries = b"".join(
        encoding.text_entries("text", pa.array([LONG]))
        + encoding.text_entries("gone", pa.array([None], pa.string()))
        + encoding.list_entries("many", pa.array([["a", "", "é" * 70]]))
        + encoding.list_entries("none", pa.array([[]], pa.list_(pa.string())))
        + encoding.float_entries("number", pa.array([0.25]))
        + encoding.float_entries("nothing", pa.array([None], pa.float64()))
        + encoding.int_entries("when", pa.array([1_700_000_000_123]))
        + [encoding.bytes_entry("empty", b"")]
    )
    assert decoded(encoding.example(entries)) == {
        "text": [LONG],
        "many": ["a", "", "é" * 70],
        "number": [0.25],
        "when": [1_700_000_000_123],
        "empty": [],
    }
    for value in (0, 1, 127, 128, 300, 2**14, 2**32, 2**62):
        (entry,) = encoding.int_entries("n", pa.array([value]))
        assert decoded(encoding.example(entry)) == {"n": [value]}
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


@hypothesis_settings(max_examples=100, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=300),
    number=st.floats(width=32, allow_nan=False),
    whole=st.integers(0, 2**63 - 1),
)
def test_any_value_survives(text, number, whole):
    (a,) = encoding.text_entries("a", pa.array([text]))
    (b,) = encoding.float_entries("b", pa.array([number], pa.float64()))
    (c,) = encoding.int_entries("c", pa.array([whole]))
    assert decoded(encoding.example(a + b + c)) == {
        "a": [text],
        "b": [number],
        "c": [whole],
    }


def test_tensorflow_reads_our_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    records = [b"", b"one", b"\xff" * 100_000]
    path = str(tmp_path / "x" / "records.gz")
    write_records(path, records)
    dataset = tf.data.TFRecordDataset(path, "GZIP")
    assert [record.numpy() for record in dataset] == records
    write_records(path, [])
    assert list(tf.data.TFRecordDataset(path, "GZIP")) == []


def test_we_read_tensorflows_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    path = str(tmp_path / "records")
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b"one")
        writer.write(b"two")
    with open(path, "rb") as handle:
        assert list(tfrecord.read_records(handle)) == [b"one", b"two"]


@pytest.mark.parametrize("at", [0, 8, 12, 15])
def test_any_flipped_bit_is_seen(at):
    frame = bytearray(tfrecord.framed(b"abc"))
    frame[at] ^= 1
    with pytest.raises(tfrecord.CorruptRecordError):
        list(tfrecord.read_records(io.BytesIO(bytes(frame))))
