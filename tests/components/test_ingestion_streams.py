"""Compressed, damaged and endless files give what stands before the damage."""

import gzip
import io
import json
import zlib

import pytest

from components.ingestion import lines, streams, tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.settings import Format
from tests.components import ingestion_world as world
from tests.components import memory_file_system
from tests.components.ingestion_reading import (
    batches,
    plain,
    plain_lines,
)


def events_read(path, kind=Format.JSONL):
    """Returns (ids, broken records) of a file."""
    ids, broken = [], []
    for batch in batches(path, kind):
        ids += plain(batch.columns.get("event_id", []))
        broken += batch.broken
    return ids, broken


def test_members_of_a_gzip_file_are_read_one_after_the_other(tmp_path):
    data = plain_lines(300)
    path = tmp_path / "a.jsonl.gz"
    members = [gzip.compress(b"\n".join(data[i : i + 100]) + b"\n") for i in (0, 100)]
    # A member may be empty, and zeros may pad them.
    members += [gzip.compress(b""), b"\0" * 512, gzip.compress(b"\n".join(data[200:]))]
    path.write_bytes(b"".join(members))
    ids, broken = events_read(path)
    assert (ids, broken) == ([f"e{i}" for i in range(300)], [])


def compressible(number):
    return [json.dumps(world.event(f"e{i}")).encode() for i in range(number)]


@pytest.mark.parametrize("cut", [1, 5, 12, 100, 5000, -1, -8, -9])
def test_truncated_gzip_is_one_broken_record_behind_what_was_there(tmp_path, cut):
    data = b"\n".join(compressible(5000)) + b"\n"
    whole = gzip.compress(data, 6)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole[:cut])
    left = decompressed(whole[:cut]).split(b"\n")
    ids, broken = events_read(path)
    assert ids == [f"e{i}" for i in range(len(left) - 1)]
    assert [record.position for record in broken] == [len(left)]
    assert broken[0].raw == left[-1].decode()
    assert "damage: the file ends within" in broken[0].seen


def decompressed(data):
    """Returns all that can be decompressed, byte by byte."""
    member = zlib.decompressobj(31)
    out = b""
    for i in range(len(data)):
        try:
            out += member.decompress(data[i : i + 1])
        except zlib.error:
            break
    return out


def test_damaged_gzip_keeps_what_comes_before_the_damage(tmp_path):
    data = b"\n".join(plain_lines(10_000))
    whole = bytearray(gzip.compress(data, 6))
    whole[len(whole) * 3 // 4] ^= 0xFF
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(whole)
    ids, broken = events_read(path)
    before = decompressed(bytes(whole)).count(b"\n")
    # The last piece handed to zlib before the damage may be lost, no more.
    assert 0 < len(ids) <= before + 1
    assert len(broken) >= 1
    assert "damage: " in broken[-1].seen


def test_garbage_behind_gzip_is_one_broken_record(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(plain_lines(3)) + b"\n") + b"garbage")
    ids, broken = events_read(path)
    assert ids == ["e0", "e1", "e2"]
    assert [record.position for record in broken] == [4]


def test_gzip_bomb_comes_in_pieces(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (64 << 20)))
    stream = streams.open_stream(str(path))
    assert len(stream.read(1 << 20)) <= 2 << 20
    assert events_read(path) == ([], [])


def test_line_that_is_too_long_keeps_its_start_and_its_neighbours(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(lines, "_KEPT_BYTES", 10)
    good = compressible(3)
    for read_bytes in (7, 100, 1 << 20):
        monkeypatch.setattr(lines, "_READ_BYTES", read_bytes)
        for giant in (b"x" * 1001, b"x" * 5000):
            for data in (
                [*good[:1], giant, *good[1:]],
                [giant, *good],
                [*good, giant],
            ):
                path = tmp_path / "a.jsonl"
                path.write_bytes(b"\n".join(data))
                ids, broken = events_read(path)
                assert ids == ["e0", "e1", "e2"]
                (record,) = broken
                assert record.position == data.index(giant) + 1
                assert record.raw == "x" * 10
                assert "should have at most" in record.expected


def test_other_compression_is_an_error_that_says_what_to_do(tmp_path):
    for ending in ("bz2", "zst", "xz"):
        path = tmp_path / f"a.jsonl.{ending}"
        path.write_bytes(b"x")
        with pytest.raises(IngestionError, match="Compress it with gzip"):
            batches(path, Format.JSONL)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tfrecord", "a.jsonl.gz"])
def test_storage_that_fails_is_an_error_and_no_damage(monkeypatch, name):
    """The rest of a file is not given up for a moment without network."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 100_000:
                raise OSError("connection reset")
            return super().read(min(size, 100_000))

    path = f"memory://bucket/{name}"
    data = b"\n".join(
        [b"event_id,timestamp,user_id,item_id,event_type", *plain_lines(5000)]
    )
    if name.endswith("gz"):
        data = gzip.compress(data, 0)
    if name.endswith("tfrecord"):
        data = b"".join(map(tfrecord.framed, data.split(b"\n")))
    monkeypatch.setattr(memory_file_system, "FILES", {path: data})
    monkeypatch.setattr(
        memory_file_system.MemoryFileSystem,
        "open",
        lambda self, path, *arguments, **keywords: Failing(data),
    )
    kind = Format(name.split(".")[1])
    with pytest.raises(IngestionError, match="cannot read .* connection reset"):
        batches(path, kind)
