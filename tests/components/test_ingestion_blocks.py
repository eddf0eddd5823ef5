"""A file read in blocks gives what it gives as one, for blocks of any size."""

import dataclasses
import gzip
import json
import os
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import blocks
from components.ingestion.errors import IngestionError
from components.ingestion.parsing import parse_events
from components.ingestion.records import read_batches
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile, column_maps
from tests.components import ingestion_world as world

SETTINGS = world.settings(events={"path": "unused"})
COLUMNS = column_maps(SETTINGS, world.CATALOG)["events"]


def source_file(path, kind=Format.JSONL):
    size = os.path.getsize(path)
    return SourceFile("events", 0, str(path), kind, num_bytes=size)


def fates(path, parts, kind=Format.JSONL, batch_records=1000):
    """Returns every record's fate by position: accepted rows and dead letters."""
    file = source_file(path, kind)
    out = []
    for part in parts:
        for batch in read_batches(part, SETTINGS.events, COLUMNS, batch_records):
            accepted, dead = parse_events(batch, COLUMNS, SETTINGS, world.CATALOG, file)
            out += [(row["_position"], row) for row in accepted.to_pylist()]
            out += [(x.position, (x.field, x.reason, x.raw)) for x in dead]
    return sorted(out, key=lambda fate: fate[0])


def some_lines():
    """Returns lines of many lengths and fates: long, blank, broken, without an end."""
    lines = []
    for i in range(60):
        lines.append(json.dumps(world.event(f"e{i}", item_id="i" * (i * 7 % 53 + 1))))
        if i % 7 == 0:
            lines.append("")
        if i % 11 == 0:
            lines.append("{" + "x" * i)
        if i % 13 == 0:
            lines.append(json.dumps(world.event(f"v{i}", value="é" * i)) + "\r")
    return "\n".join(lines).encode()


def check_blocks(split, data, path, sizes):
    """The checker: blocks of any size tile the file and give every record once."""
    path.write_bytes(data)
    file = source_file(path)
    whole = fates(path, [blocks.whole(file)])
    lines = data.split(b"\n")
    filled = [i for i, line in enumerate(lines, 1) if line.strip()]
    assert [position for position, _ in whole] == filled
    for size in sizes:
        parts = list(split(file, size))
        assert [part.index for part in parts] == list(range(len(parts)))
        assert fates(path, parts) == whole
        for part in parts[:-1]:
            assert part.end - part.begin >= size


def test_blocks_of_lines(tmp_path):
    sizes = [1, 3, 64, 1000, 10**4, 10**6]
    check_blocks(blocks.split_file, some_lines(), tmp_path / "a.jsonl", sizes)


def test_blocks_cut_where_chunks_of_the_file_meet(tmp_path, monkeypatch):
    for read_bytes in (1, 7, 64):
        monkeypatch.setattr(blocks, "_READ_BYTES", read_bytes)
        path = tmp_path / "a.jsonl"
        check_blocks(blocks.split_file, some_lines(), path, [64, 333])


def test_blocks_in_batches_of_few_records(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(some_lines())
    parts = list(blocks.split_file(source_file(path), 500))
    whole = fates(path, [blocks.whole(source_file(path))])
    assert fates(path, parts, batch_records=3) == whole


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from([b"\n", b"{}", b'{"event_id": "a"}', b"\r\n", b" ", b"x"])
    ),
    size=st.integers(1, 20),
)
def test_blocks_of_any_lines(tmp_path_factory, pieces, size):
    path = tmp_path_factory.mktemp("blocks") / "a.jsonl"
    check_blocks(blocks.split_file, b"".join(pieces), path, [size])


def at_any_byte(file, size):
    """Cuts without looking for a line end."""
    for index, begin in enumerate(range(0, file.num_bytes, size)):
        end = min(begin + size, file.num_bytes)
        first = pathlib.Path(file.path).read_bytes()[:begin].count(b"\n") + 1
        yield blocks.Block(file, index, begin, end, first)


def repeating(file, size):
    """Gives the line at a border to both blocks."""
    data = pathlib.Path(file.path).read_bytes()
    for block in blocks.split_file(file, size):
        begin = data.rfind(b"\n", 0, max(block.begin - 1, 0)) + 1
        first = data[:begin].count(b"\n") + 1
        yield dataclasses.replace(block, begin=begin, first_position=first)


def dropping(file, size):
    """Skips the first line of each later block, as if it were the rest of one."""
    data = pathlib.Path(file.path).read_bytes()
    for block in blocks.split_file(file, size):
        begin = data.find(b"\n", block.begin) + 1 if block.index else 0
        yield dataclasses.replace(
            block, begin=begin, first_position=data[:begin].count(b"\n") + 1
        )


def counting_from_one(file, size):
    for block in blocks.split_file(file, size):
        yield dataclasses.replace(block, first_position=1)


@pytest.mark.parametrize("wrong", [at_any_byte, repeating, dropping, counting_from_one])
def test_block_checker_rejects(tmp_path, wrong):
    with pytest.raises(AssertionError):
        check_blocks(wrong, some_lines(), tmp_path / "a.jsonl", [64])


def test_small_and_empty_files_are_one_block(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "small.jsonl").write_bytes(b"{}\n{}\n")
    for name in ("empty.jsonl", "small.jsonl"):
        (block,) = blocks.split_file(source_file(tmp_path / name))
        assert (block.index, block.begin, block.first_position) == (0, 0, 1)


def test_what_cannot_be_split_stays_whole(tmp_path):
    line = json.dumps(world.event("a")).encode() + b"\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line * 50))
    (tmp_path / "a.csv").write_bytes(line * 50)
    (tmp_path / "a.tfrecord").write_bytes(line * 50)
    for name, kind in (
        ("a.jsonl.gz", Format.JSONL),
        ("a.csv", Format.CSV),
        ("a.tfrecord", Format.TFRECORD),
    ):
        file = source_file(tmp_path / name, kind)
        assert list(blocks.split_file(file, 1)) == [blocks.whole(file)]


def test_parquet_splits_at_row_groups_and_joins_small_ones(tmp_path):
    path = tmp_path / "a.parquet"
    records = [world.event(f"e{i}", position=i - 3) for i in range(100)]
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=10)
    file = source_file(path, Format.PARQUET)
    whole = fates(path, [blocks.whole(file)], Format.PARQUET)
    assert [position for position, _ in whole] == list(range(1, 101))
    one_group = os.path.getsize(path) // 12
    for size, number in ((1, 10), (one_group * 3, None), (1 << 20, 1)):
        parts = list(blocks.split_file(file, size))
        assert number is None or len(parts) == number
        assert [part.index for part in parts] == list(range(len(parts)))
        assert fates(path, parts, Format.PARQUET) == whole
        assert fates(path, parts, Format.PARQUET, batch_records=7) == whole
    coalesced = list(blocks.split_file(file, one_group * 3))
    assert 1 < len(coalesced) < 10


def test_parquet_without_rows_is_one_block(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([world.event("a")]).slice(0, 0), path)
    parts = list(blocks.split_file(source_file(path, Format.PARQUET)))
    assert len(parts) == 1
    assert fates(path, parts, Format.PARQUET) == []


def test_parquet_of_another_kind_is_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("event_id\n")
    with pytest.raises(IngestionError, match="cannot be read as Parquet"):
        list(blocks.split_file(source_file(path, Format.PARQUET)))
