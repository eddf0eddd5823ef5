"""Records of JSON: those of the usual shape all at once, the others one by one.

`json_object` defines what a record means. Records of a shape for which Arrow's reader is
known to say the same (see `json_shape`) go through it, at a fifth of the time; nothing in
the outcome tells them apart but that they come in batches of their own.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from components.ingestion.json_shape import JsonShape
from components.ingestion.lines import Lines
from components.ingestion.raw_batch import BrokenRecord, RawBatch, column
from components.ingestion.sources import ColumnMap

# What a record means: named values, or None where it is no record at all. ValueError
# and RecursionError say that it means nothing.
Parse = Callable[[bytes], dict[str, Any] | None]

_OBJECT_RULE = "the record should be one object of named values, in UTF-8"
_SAMPLE = 200  # records from which a shape is learnt
_ODD_SHARE = 0.01  # of records without it, above which it is learnt anew
_MAX_DIGITS = 4300  # what Python reads as one number
_MANY_DIGITS = "[0-9]{1000}"
_MIN_RECORDS = 64  # fewer are not worth a search for the one that Arrow refuses


def json_object(line: bytes) -> dict[str, Any] | None:
    """Returns the object that a line holds, None for a blank one.

    Raises:
        ValueError: if it holds none.
        RecursionError: if it nests too deep.
    """
    if not line.strip():
        return None
    value = json.loads(line.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}")
    return value


def object_batches(
    parts: Iterable[Lines | BrokenRecord],
    column_map: ColumnMap | None,
    batch_records: int,
    parse: Parse = json_object,
) -> Iterator[RawBatch]:
    """Yields the records of `parts`.

    Args:
        parts: lines or other records of bytes, and broken records between them.
        column_map: which columns are read, and which as numbers; None reads every
            column under whatever type its values have, one record after the other.
        batch_records: the most records of a batch.
        parse: what a record means; of a JSON object, what `json_object` says.
    """
    shape = None
    for part in parts:
        if isinstance(part, BrokenRecord):
            yield RawBatch({}, np.array([], np.int64), str, [part])
            continue
        for lines in part.in_parts(batch_records):
            odd = np.arange(len(lines))
            if column_map is not None:
                if shape is None:
                    shape = JsonShape(column_map)
                    shape.learn(_sampled(lines, odd, parse))
                has_shape = _has_shape(lines, shape)
                refused: list[np.ndarray] = []
                yield from _at_once(lines, np.flatnonzero(has_shape), shape, refused)
                odd = np.sort(np.concatenate([np.flatnonzero(~has_shape), *refused]))
                if len(odd) > _ODD_SHARE * len(lines):
                    shape.learn(_sampled(lines, odd, parse), len(odd) / len(lines))
            batch = _one_by_one(lines, odd, parse)
            if batch.num_read:
                yield batch


def _one_by_one(lines: Lines, rows: np.ndarray, parse: Parse) -> RawBatch:
    objects: list[dict[str, Any]] = []
    kept: list[int] = []
    broken: list[BrokenRecord] = []
    for row in rows.tolist():
        try:
            parsed = parse(lines.record(row))
        except (ValueError, RecursionError) as error:
            seen = str(error) or type(error).__name__
            broken.append(
                BrokenRecord(lines.first + row, _OBJECT_RULE, seen, lines.text(row))
            )
            continue
        if parsed is not None:
            objects.append(parsed)
            kept.append(row)
    names = dict.fromkeys(name for record in objects for name in record)
    columns = {name: column([record.get(name) for record in objects]) for name in names}
    return _batch(columns, lines, np.array(kept, np.int64), broken)


def _at_once(
    lines: Lines, rows: np.ndarray, shape: JsonShape, refused: list[np.ndarray]
) -> Iterator[RawBatch]:
    """Yields records that have the shape; adds those that Arrow refuses to `refused`.

    It refuses a record with a key twice, and with it all that are read at once: those
    are halved until what is left is not worth it.
    """
    if not len(rows):
        return
    table = _read_json(lines, rows, shape.schema)
    if table is not None:
        columns = {
            name: values.chunk(0)
            for name, values in zip(table.column_names, table.columns, strict=True)
        }
        yield _batch(columns, lines, rows, [])
    elif len(rows) <= _MIN_RECORDS:
        refused.append(rows)
    else:
        middle = len(rows) // 2
        yield from _at_once(lines, rows[:middle], shape, refused)
        yield from _at_once(lines, rows[middle:], shape, refused)


def _read_json(lines: Lines, rows: np.ndarray, schema: pa.Schema) -> pa.Table | None:
    """Returns a row for each record, None if Arrow does not give just that."""
    data = lines.chosen(rows)
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            pa_json.ReadOptions(use_threads=False, block_size=data.size + 1),
            pa_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="ignore"
            ),
        )
    except pa.ArrowException:
        return None
    return table if len(table) == len(rows) else None


def _has_shape(lines: Lines, shape: JsonShape) -> np.ndarray:
    if not shape.is_known:
        return np.zeros(len(lines), bool)
    array = lines.as_array()
    matched = pc.match_substring_regex(array, shape.pattern)
    has_shape = matched.to_numpy(zero_copy_only=False) & lines.is_utf8()
    long = np.flatnonzero(np.diff(lines.offsets) > _MAX_DIGITS)
    if len(long):
        many = pc.match_substring_regex(array.take(pa.array(long)), _MANY_DIGITS)
        has_shape[long] &= ~many.to_numpy(zero_copy_only=False)
    return has_shape


def _sampled(lines: Lines, rows: np.ndarray, parse: Parse) -> list[dict[str, Any]]:
    """Returns what the first of `rows` mean that mean something."""
    objects = []
    for row in rows[: 2 * _SAMPLE].tolist():
        try:
            parsed = parse(lines.record(row))
        except (ValueError, RecursionError):
            continue
        if parsed is not None:
            objects.append(parsed)
    return objects[:_SAMPLE]


def _batch(
    columns: dict[str, Any], lines: Lines, rows: np.ndarray, broken: list[BrokenRecord]
) -> RawBatch:
    return RawBatch(
        columns, lines.first + rows, lambda row: lines.text(int(rows[row])), broken
    )
