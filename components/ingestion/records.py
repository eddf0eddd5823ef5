"""Raw records of a source, in batches of columns, whatever the file format.

A record that does not even split into fields becomes a `BrokenRecord`; nothing read is
dropped in silence.
"""

import csv
import dataclasses
import itertools
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from components.ingestion import tfrecord
from components.ingestion.errors import IngestionError
from components.ingestion.settings import Format, Source
from components.ingestion.sources import SourceFile, nearest

BATCH_RECORDS = 50_000
_READ_BYTES = 4 << 20
_MAX_FIELD_BYTES = 16 << 20
_CSV_RULE = "the record should have the header's fields, in UTF-8"
# What a truncated or damaged gzip stream raises while it is read.
_READ_ERRORS = (EOFError, OSError, zlib.error)

# A column is an Arrow array where its values share a type, else the values themselves.
Column = pa.Array | list[Any]


@dataclasses.dataclass(frozen=True)
class BrokenRecord:
    """A record that could not be split into fields."""

    position: int
    expected: str  # the rule it broke, the same text for each such record
    seen: str
    raw: str


@dataclasses.dataclass(frozen=True)
class RawBatch:
    """Some consecutive records of one file.

    `columns` go by the service's own names and have `len(positions)` rows; a column
    that no record has is left out. `raw(i)` gives row i as it stood in the file.
    """

    columns: dict[str, Column]
    positions: np.ndarray  # int64, from 1: line of a text file, else record
    raw: Callable[[int], str]
    broken: list[BrokenRecord]

    @property
    def num_read(self) -> int:
        return len(self.positions) + len(self.broken)


def read_batches(
    file: SourceFile,
    source: Source,
    required: frozenset[str],
    batch_records: int = BATCH_RECORDS,
) -> Iterator[RawBatch]:
    """Yields the records of one file.

    Args:
        file: what to read; a `.gz` file is decompressed.
        source: its declaration.
        required: own names of columns that a file with a header must have.
        batch_records: most records of a batch.

    Raises:
        IngestionError: if the file cannot be opened, is no Parquet file, or lacks a
            required column.
    """
    try:
        handle = FileSystems.open(file.path)
    except _READ_ERRORS as error:
        raise IngestionError(f"cannot open `{file.path}`: {error}") from error
    with handle:
        if file.format is Format.PARQUET:
            yield from _parquet_batches(file, handle, required, batch_records)
        elif file.format is Format.CSV:
            yield from _csv_batches(file, source, handle, required, batch_records)
        elif file.format is Format.JSONL:
            records = ((i, line) for i, line in _lines(handle) if _is_filled(line))
            yield from _object_batches(records, _json_object, batch_records)
        else:
            yield from _object_batches(
                _framed_records(handle), _tfrecord_object, batch_records
            )


def check_columns(path: str, have: Iterable[str], required: frozenset[str]) -> None:
    """Raises IngestionError if the file at `path` lacks a required column."""
    have = list(have)
    for name in sorted(required.difference(have)):
        raise IngestionError(
            f"`{path}` has no column `{name}`.{nearest(name, have)} Columns there: "
            f"{', '.join(have)}. Map the canonical name to the file's own under "
            "`columns`."
        )


def text_of(data: bytes) -> str:
    """Returns `data` as text, with bytes that are not UTF-8 spelled out."""
    return data.decode("utf-8", "backslashreplace")


def _parquet_batches(
    file: SourceFile, handle: BinaryIO, required: frozenset[str], batch_records: int
) -> Iterator[RawBatch]:
    first = 1
    try:
        parquet = pq.ParquetFile(handle)
        check_columns(file.path, parquet.schema_arrow.names, required)
        for batch in parquet.iter_batches(batch_records):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            positions = np.arange(first, first + len(batch))

            def raw(row: int, batch: pa.RecordBatch = batch) -> str:
                return json.dumps(batch.slice(row, 1).to_pylist()[0], default=str)

            yield RawBatch(columns, positions, raw, [])
            first += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise IngestionError(
            f"`{file.path}` cannot be read as Parquet: {error}. Export it again, or set "
            "its `format`."
        ) from error


def _lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | BrokenRecord]]:
    """Yields (line number, line with its end), and a last broken one at damage."""
    number, rest = 0, b""
    while True:
        try:
            chunk = handle.read(_READ_BYTES)
        except _READ_ERRORS as error:
            yield number + 1, _damage(number + 1, error, rest)
            return
        if not chunk:
            break
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
    except (tfrecord.CorruptRecordError, *_READ_ERRORS) as error:
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


def column(values: list[Any]) -> Column:
    """Returns an Arrow array where the values share one plain type, else the list."""
    types = {type(value) for value in values} - {type(None)}
    if len(types) != 1 or not types <= {str, int, float}:
        return values if types else pa.nulls(len(values))
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return values


def _csv_batches(
    file: SourceFile,
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
