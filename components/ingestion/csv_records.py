"""Records of CSV: plain lines all at once, and from any other line on one by one.

Python's `csv` module defines what a record is. A line whose quotes open and close within
their fields, with as many fields as the header has, is a record of its own wherever a
record may begin; of such lines Arrow's reader says the same. Any other line may begin a
record of several lines, so the module reads on from there until it is complete.
"""

import csv
import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from components.ingestion.lines import Lines
from components.ingestion.raw_batch import BrokenRecord, RawBatch, column, text_of

_MAX_FIELD_BYTES = 16 << 20
_RULE = "the record should have the header's fields, in UTF-8"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_COLUMNS = 500  # more make an expression that costs more than it saves


@dataclasses.dataclass(frozen=True, slots=True)
class CsvRecord:
    """A record that could be split into fields."""

    position: int
    fields: list[str]
    raw: str


class CsvReader:
    """Reads records one by one, from any line on."""

    def __init__(self, parts: Iterator[Lines | BrokenRecord], delimiter: str):
        """Begins at the first line of `parts`."""
        self._parts = parts
        self._delimiter = delimiter
        self.lines = Lines(b"", np.zeros(1, np.int64), 1)
        self.row = 0  # the next one of `lines`
        self.broken: list[BrokenRecord] = []  # what `parts` held between the lines
        csv.field_size_limit(_MAX_FIELD_BYTES)

    def has_line(self) -> bool:
        """Moves on to lines that are not read yet; returns whether there are any."""
        while self.row >= len(self.lines):
            part = next(self._parts, None)
            if part is None:
                return False
            if isinstance(part, BrokenRecord):
                self.broken.append(part)
            else:
                self.lines, self.row = part, 0
        return True

    def read_record(self) -> CsvRecord | BrokenRecord | None:
        """Reads the record that begins at the next line; None for an empty line."""
        taken: list[str] = []

        def texts() -> Iterator[str]:
            while self.has_line():
                line = self.lines.line(self.row)
                self.row += 1
                # Kept reversible, so that a bad byte spoils its own record only.
                taken.append(line.decode("utf-8", "surrogateescape"))
                yield taken[-1]

        fault = ""
        position = self.lines.first + self.row if self.has_line() else 0
        try:
            fields = next(csv.reader(texts(), delimiter=self._delimiter), [])
        except csv.Error as error:
            fields, fault = [], str(error)
        raw = "".join(taken).rstrip("\r\n")
        if not raw.isascii() and _has_surrogate(raw):
            raw = text_of(raw.encode("utf-8", "surrogateescape"))
            fault = fault or "bytes that are not UTF-8"
        if fault:
            return BrokenRecord(position, _RULE, fault, raw)
        return CsvRecord(position, fields, raw) if fields else None


class CsvShape:
    """What a line looks like that is a record of its own with all its fields."""

    def __init__(self, names: list[str], delimiter: str):
        """Begins with the header's names, in their order."""
        self._names = names
        self._delimiter = delimiter
        mark = re.escape(delimiter)
        # A line without anything is no record, where else it would be an empty field.
        plain = rf'[^"\r\n\x00{mark}]' + ("*" if len(names) > 1 else "+")
        field = rf'(?:{plain}|"(?:[^"\r\n\x00]|"")*")'
        self._pattern = rf"\A{field}(?:{mark}{field}){{{len(names) - 1}}}\r?\n?\z"
        is_one_byte = delimiter.isascii() and delimiter not in '"\r\n\0'
        self._is_known = is_one_byte and len(names) <= _MAX_COLUMNS

    def fits(self, lines: Lines) -> np.ndarray:
        """Returns [n] bool, whether each line has the shape."""
        if not self._is_known:
            return np.zeros(len(lines), bool)
        matched = pc.match_substring_regex(lines.as_array(), self._pattern)
        is_short = np.diff(lines.offsets) < _MAX_FIELD_BYTES
        return matched.to_numpy(zero_copy_only=False) & is_short & lines.is_utf8()

    def read(self, lines: Lines, rows: np.ndarray) -> dict[str, pa.Array] | None:
        """Returns the columns of `rows`, which have the shape; None where in doubt."""
        if not len(rows):
            return {}
        data = lines.chosen(rows)
        if data[:3].to_pybytes() == _BYTE_ORDER_MARK:  # Arrow would skip it
            return None
        indices = [str(index) for index in range(len(self._names))]
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            pa_csv.ReadOptions(
                column_names=indices, use_threads=False, block_size=data.size + 1
            ),
            pa_csv.ParseOptions(delimiter=self._delimiter, ignore_empty_lines=False),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(indices, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
                check_utf8=False,
            ),
        )
        if len(table) != len(rows):
            return None
        columns = [values.chunk(0) for values in table.columns]
        return dict(zip(self._names, columns, strict=True))


def csv_batches(
    reader: CsvReader, names: list[str], delimiter: str, batch_records: int
) -> Iterator[RawBatch]:
    """Yields the records behind the header.

    Args:
        reader: has read the header.
        names: the header's.
        delimiter: between fields.
        batch_records: about the most records of a batch.
    """
    shape = CsvShape(names, delimiter)
    while reader.has_line():
        begin = reader.row
        lines = reader.lines.slice(begin, min(begin + batch_records, len(reader.lines)))
        is_usual = shape.fits(lines)
        odd = _read_odd(reader, lines, is_usual)
        rows = np.flatnonzero(is_usual)
        columns = shape.read(lines, rows)
        if columns is None:
            for row in rows.tolist():
                line = CsvReader(iter([lines.slice(row, row + 1)]), delimiter)
                odd.append(line.read_record())
        elif len(rows):
            yield _usual_batch(columns, lines, rows)
        yield from _odd_batch(names, odd)
    yield from _odd_batch(names, reader.broken)


def _read_odd(
    reader: CsvReader, lines: Lines, is_usual: np.ndarray
) -> list[CsvRecord | BrokenRecord | None]:
    """Reads the records that begin at lines without the shape.

    Clears in `is_usual` the lines that belong to them, and leaves the reader behind
    `lines`, or further where a record reaches further.
    """
    current, begin = reader.lines, reader.row
    records = []
    done = 0
    for row in np.flatnonzero(~is_usual).tolist():
        if row < done:  # within a record that began before
            continue
        reader.row = begin + row
        records.append(reader.read_record())
        done = reader.row - begin if reader.lines is current else len(lines)
        is_usual[row:done] = False
        if reader.lines is not current:
            return records
    reader.row = begin + max(done, len(lines))
    return records


def _usual_batch(
    columns: dict[str, pa.Array], lines: Lines, rows: np.ndarray
) -> RawBatch:
    def raw(row: int) -> str:
        return lines.text(int(rows[row])).rstrip("\r\n")

    return RawBatch(columns, lines.first + rows, raw, [])


def _odd_batch(
    names: list[str], records: Iterable[CsvRecord | BrokenRecord | None]
) -> Iterator[RawBatch]:
    """Yields a batch of records that were read one by one, if there is any."""
    rows: list[CsvRecord] = []
    broken: list[BrokenRecord] = []
    for record in records:
        if isinstance(record, CsvRecord) and len(record.fields) != len(names):
            seen = f"{len(record.fields)} fields where the header has {len(names)}"
            record = BrokenRecord(record.position, _RULE, seen, record.raw)
        if isinstance(record, BrokenRecord):
            broken.append(record)
        elif record is not None:
            rows.append(record)
    if rows or broken:
        columns = {
            name: column([row.fields[i] or None for row in rows])
            for i, name in enumerate(names)
        }
        positions = np.array([row.position for row in rows], np.int64)
        yield RawBatch(columns, positions, lambda row: rows[row].raw, broken)


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False
