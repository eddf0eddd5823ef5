"""Raw records of a source, in batches of columns, whatever the file format.

A record that does not even split into fields becomes a `BrokenRecord`; nothing read is
dropped in silence.
"""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion import streams, tfrecord
from components.ingestion.blocks import PARQUET_ERRORS, Block, group_rows, parquet_error
from components.ingestion.csv_records import CsvReader, CsvRecord, csv_batches
from components.ingestion.errors import IngestionError
from components.ingestion.json_lines import json_object, object_batches
from components.ingestion.lines import Lines, damage, joined, read_lines
from components.ingestion.raw_batch import BrokenRecord, RawBatch, text_of, value_of
from components.ingestion.settings import Format, Source
from components.ingestion.sources import ColumnMap, SourceFile, nearest

BATCH_RECORDS = 50_000
_READ_BYTES = 4 << 20


def _spelled(value: Any) -> str:
    return text_of(value) if isinstance(value, bytes) else str(value)


_TO_JSON = json.JSONEncoder(default=_spelled)


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
    # Of items, columns that nothing declares are kept, whatever they hold.
    read_at_once = None if file.table == "items" else column_map
    try:
        if file.format is Format.CSV:
            yield from _csv_batches(
                file, source, handle, column_map.required, batch_records
            )
        elif file.format is Format.JSONL:
            if block.begin:
                handle.seek(block.begin)
            size = None if block.end is None else block.end - block.begin
            parts = read_lines(handle, size, block.first_position)
            yield from object_batches(parts, read_at_once, batch_records)
        else:
            parts = _framed_records(handle, batch_records)
            yield from object_batches(
                parts, read_at_once, batch_records, tfrecord_object
            )
    except OSError as error:
        raise IngestionError(f"cannot read `{file.path}`: {error}") from error
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
            rows = group_rows(parquet.metadata)
            groups = range(block.begin, len(rows) if block.end is None else block.end)
            for batch in parquet.iter_batches(batch_records, row_groups=groups):
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                positions = np.arange(first, first + len(batch))

                def raw(row: int, columns: dict[str, pa.Array] = columns) -> str:
                    record = {name: value_of(x[row]) for name, x in columns.items()}
                    return _TO_JSON.encode(record)

                yield RawBatch(columns, positions, raw, [])
                first += len(batch)
            declared = sum(rows[block.begin : block.end])
            found = first - block.first_position
            if found != declared:
                raise OSError(f"{found} rows where its footer says {declared}")
        except PARQUET_ERRORS as error:
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


def _framed_records(
    handle: BinaryIO, batch_records: int
) -> Iterator[Lines | BrokenRecord]:
    """Yields TFRecords some at a time, and a last broken one at damage."""
    records: list[bytes] = []
    number, size = 1, 0
    broken = None
    framed = tfrecord.read_records(handle)
    while broken is None:
        try:
            record = next(framed, None)
        except (tfrecord.CorruptRecordError, streams.DamagedError) as error:
            record, broken = None, damage(number + len(records), error, b"")
        if record is not None:
            records.append(record)
            size += len(record)
        if records and (
            record is None or len(records) >= batch_records or size > _READ_BYTES
        ):
            yield joined(records, number)
            number, size = number + len(records), 0
            records = []
        if record is None:
            break
    if broken is not None:
        yield broken


def tfrecord_object(record: bytes) -> dict[str, Any]:
    """Returns the named values of one record, JSON or tf.Example.

    Raises:
        ValueError: if it is neither.
    """
    if record.lstrip(b" \t\r\n").startswith(b"{"):
        try:
            return json_object(record)
        except ValueError:
            # A tf.Example of 123 bytes begins with a line feed and that brace.
            if not record.startswith(b"\n{"):
                raise
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
    file: SourceFile,
    source: Source,
    handle: streams.Stream,
    required: frozenset[str],
    batch_records: int,
) -> Iterator[RawBatch]:
    reader = CsvReader(read_lines(handle), source.delimiter)
    header = None
    while header is None and reader.has_line():
        header = reader.read_record()
    if header is None and not reader.broken:
        return
    if not isinstance(header, CsvRecord):
        seen = (header or reader.broken[0]).seen
        raise IngestionError(
            f"`{file.path}` has no readable CSV header: {seen}. Export it again, or set "
            "its `format` and `delimiter`."
        )
    names = [name.strip() for name in header.fields]
    names[0] = names[0].removeprefix("\ufeff")
    check_columns(file.path, names, required)
    yield from csv_batches(reader, names, source.delimiter, batch_records)
