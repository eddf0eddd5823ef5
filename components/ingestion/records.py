"""Raw records of a source, in batches of columns, whatever the file format.

A record that does not even split into fields becomes a `BrokenRecord`; nothing read is
dropped in silence.
"""

import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion import streams, tfrecord
from components.ingestion.blocks import Block, parquet_error
from components.ingestion.errors import IngestionError
from components.ingestion.raw_batch import (
    BrokenRecord,
    Column,
    RawBatch,
    column,
    text_of,
)
from components.ingestion.settings import Format, Source
from components.ingestion.sources import ColumnMap, nearest

__all__ = [
    "BATCH_RECORDS",
    "BrokenRecord",
    "Column",
    "RawBatch",
    "column",
    "read_batches",
]

BATCH_RECORDS = 50_000
_READ_BYTES = 4 << 20
_MAX_FIELD_BYTES = 16 << 20
_CSV_RULE = "the record should have the header's fields, in UTF-8"


def read_batches(
    block: Block,
    source: Source,
    column_map: ColumnMap,
    batch_records: int = BATCH_RECORDS,
) -> Iterator[RawBatch]:
    """Yields the records of one block of a file.

    Args:
        block: what to read; of a compressed file, the whole.
        source: the declaration of the file's source.
        column_map: its columns; a file with a header must have the required ones.
        batch_records: about the most records of a batch.

    Raises:
        IngestionError: if the file cannot be opened, is no Parquet file, or lacks a
            required column.
    """
    file = block.file
    if file.format is Format.PARQUET:
        yield from _parquet_batches(block, column_map.required, batch_records)
        return
    handle = streams.open_stream(file.path)
    try:
        if file.format is Format.CSV:
            yield from _csv_batches(
                file, source, handle, column_map.required, batch_records
            )
        elif file.format is Format.JSONL:
            if block.begin:
                handle.seek(block.begin)
            size = None if block.end is None else block.end - block.begin
            records = (
                (block.first_position - 1 + i, line)
                for i, line in _lines(handle, size)
                if _is_filled(line)
            )
            yield from _object_batches(records, _json_object, batch_records)
        else:
            yield from _object_batches(
                _framed_records(handle), _tfrecord_object, batch_records
            )
    finally:
        handle.close()


def check_columns(path: str, have: Iterable[str], required: frozenset[str]) -> None:
    """Raises IngestionError if the file at `path` lacks a required column."""
    have = list(have)
    for name in sorted(required.difference(have)):
        raise IngestionError(
            f"`{path}` has no column `{name}`.{nearest(name, have)} Columns there: "
            f"{', '.join(have)}. Map the canonical name to the file's own under "
            "`columns`."
        )


def _parquet_batches(
    block: Block, required: frozenset[str], batch_records: int
) -> Iterator[RawBatch]:
    path, first = block.file.path, block.first_position
    with _parquet_handle(path) as handle:
        try:
            parquet = pq.ParquetFile(handle)
            check_columns(path, parquet.schema_arrow.names, required)
            end = parquet.num_row_groups if block.end is None else block.end
            groups = range(block.begin, end)
            for batch in parquet.iter_batches(batch_records, row_groups=groups):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                positions = np.arange(first, first + len(batch))

                def raw(row: int, batch: pa.RecordBatch = batch) -> str:
                    return json.dumps(batch.slice(row, 1).to_pylist()[0], default=str)

                yield RawBatch(columns, positions, raw, [])
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise parquet_error(path, error) from error


def _parquet_handle(path: str) -> Any:
    if streams.is_plain(path):
        return streams.open_plain(path)
    # Parquet is read from its end: a compressed file has to be unpacked as a whole.
    stream = streams.open_stream(path)
    try:
        return io.BytesIO(b"".join(iter(lambda: stream.read(_READ_BYTES), b"")))
    except streams.READ_ERRORS as error:
        raise parquet_error(path, error) from error
    finally:
        stream.close()


def _lines(
    handle: BinaryIO, size: int | None = None
) -> Iterator[tuple[int, bytes | BrokenRecord]]:
    """Yields (line number, line with its end), and a last broken one at damage."""
    number, rest = 0, b""
    while True:
        try:
            chunk = handle.read(_READ_BYTES if size is None else min(_READ_BYTES, size))
        except streams.READ_ERRORS as error:
            yield number + 1, _damage(number + 1, error, rest)
            return
        if not chunk:
            break
        size = None if size is None else size - len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            yield number, line + b"\n"
    if rest:
        yield number + 1, rest


def _is_filled(line: bytes | BrokenRecord) -> bool:
    return isinstance(line, BrokenRecord) or bool(line.strip())


def _framed_records(handle: BinaryIO) -> Iterator[tuple[int, bytes | BrokenRecord]]:
    number = 0
    try:
        for record in tfrecord.read_records(handle):
            number += 1
            yield number, record
    except (tfrecord.CorruptRecordError, *streams.READ_ERRORS) as error:
        yield number + 1, _damage(number + 1, error, b"")


def _damage(position: int, error: Exception, rest: bytes) -> BrokenRecord:
    return BrokenRecord(
        position, "the file should be whole", f"damage: {error}", text_of(rest)
    )


def _object_batches(
    records: Iterable[tuple[int, bytes | BrokenRecord]],
    parse: Callable[[bytes], dict[str, Any]],
    batch_records: int,
) -> Iterator[RawBatch]:
    """Batches records that are objects of named values."""
    objects: list[dict[str, Any]] = []
    lines: list[bytes] = []
    positions: list[int] = []
    broken: list[BrokenRecord] = []

    def batch() -> RawBatch:
        names = dict.fromkeys(name for record in objects for name in record)
        columns = {
            name: column([record.get(name) for record in objects]) for name in names
        }
        kept = lines
        return RawBatch(
            columns,
            np.array(positions, np.int64),
            lambda row: text_of(kept[row]).rstrip("\n"),
            broken,
        )

    for position, record in records:
        if isinstance(record, BrokenRecord):
            broken.append(record)
            continue
        try:
            objects.append(parse(record))
            lines.append(record)
            positions.append(position)
        except (ValueError, RecursionError) as error:
            expected = "the record should be one object of named values, in UTF-8"
            seen = str(error) or type(error).__name__
            raw = text_of(record).rstrip("\n")
            broken.append(BrokenRecord(position, expected, seen, raw))
        if len(objects) + len(broken) >= batch_records:
            yield batch()
            objects, lines, positions, broken = [], [], [], []
    if objects or broken:
        yield batch()


def _json_object(line: bytes) -> dict[str, Any]:
    value = json.loads(line.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}")
    return value


def _tfrecord_object(record: bytes) -> dict[str, Any]:
    if record.lstrip()[:1] == b"{":
        return _json_object(record)
    # TensorFlow is loaded only by the logs that need its protos.
    from google.protobuf.message import DecodeError
    from tensorflow.core.example.example_pb2 import Example

    try:
        features = Example.FromString(record).features.feature
    except DecodeError as error:
        raise ValueError(f"neither JSON nor tf.Example: {error}") from error
    out: dict[str, Any] = {}
    for name, feature in features.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        if kind == "bytes_list":
            values = [value.decode("utf-8") for value in values]
        if values:
            out[name] = values[0] if len(values) == 1 else values
    return out


def _csv_batches(
    file: Any,
    source: Source,
    handle: BinaryIO,
    required: frozenset[str],
    batch_records: int,
) -> Iterator[RawBatch]:
    records = _csv_records(handle, source.delimiter)
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, BrokenRecord):
        raise IngestionError(
            f"`{file.path}` has no readable CSV header: {header.seen}. Export it again, "
            "or set its `format` and `delimiter`."
        )
    names = [name.strip() for name in header.fields]
    names[0] = names[0].removeprefix("\ufeff")
    check_columns(file.path, names, required)
    while chunk := list(itertools.islice(records, batch_records)):
        rows: list[_CsvRecord] = []
        broken: list[BrokenRecord] = []
        for record in chunk:
            if isinstance(record, _CsvRecord) and len(record.fields) != len(names):
                seen = f"{len(record.fields)} fields where the header has {len(names)}"
                record = BrokenRecord(record.position, _CSV_RULE, seen, record.raw)
            (broken if isinstance(record, BrokenRecord) else rows).append(record)
        columns = {
            name: column([row.fields[i] or None for row in rows])
            for i, name in enumerate(names)
        }
        yield RawBatch(
            columns,
            np.array([row.position for row in rows], np.int64),
            lambda row, rows=rows: rows[row].raw,
            broken,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _CsvRecord:
    position: int
    fields: list[str]
    raw: str


def _csv_records(
    handle: BinaryIO, delimiter: str
) -> Iterator[_CsvRecord | BrokenRecord]:
    """Yields the header, then the records; empty lines are none."""
    damage: list[BrokenRecord] = []
    taken: list[tuple[int, str]] = []  # lines of the current record

    def lines() -> Iterator[str]:
        for number, line in _lines(handle):
            if isinstance(line, BrokenRecord):
                damage.append(line)
                return
            # Kept reversible, so that a bad byte spoils its own record only.
            taken.append((number, line.decode("utf-8", "surrogateescape")))
            yield taken[-1][1]

    csv.field_size_limit(_MAX_FIELD_BYTES)
    reader = csv.reader(lines(), delimiter=delimiter)
    while True:
        fault = ""
        try:
            fields = next(reader, None)
        except csv.Error as error:
            fields, fault = [], str(error)
        if fields is None:
            break
        raw = "".join(line for _, line in taken).rstrip("\r\n")
        position = taken[0][0] if taken else 1
        taken.clear()
        if not raw.isascii() and _has_surrogate(raw):
            raw = text_of(raw.encode("utf-8", "surrogateescape"))
            fault = fault or "bytes that are not UTF-8"
        if fault:
            yield BrokenRecord(position, _CSV_RULE, fault, raw)
        elif fields:
            yield _CsvRecord(position, fields, raw)
    yield from damage


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
