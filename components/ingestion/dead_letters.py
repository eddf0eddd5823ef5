"""Dead letters as a person mends them: one object a line, under the service's own names.

Beside a record's fields stand keys of ours, each from `_`: why it was refused, where it
stood, and which letter it is. A record that could not be split into fields has `_raw`
in their place.
"""

import collections
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.ingestion import streams
from components.ingestion.csv_records import CsvReader, CsvRecord
from components.ingestion.errors import IngestionError
from components.ingestion.lines import read_lines
from components.ingestion.records import tfrecord_object
from components.ingestion.sources import ColumnMap

REASON, FILE, POSITION = "_reason", "_file", "_position"
LETTER, RAW = "_letter", "_raw"
_OURS = frozenset((REASON, FILE, POSITION, LETTER, RAW))
_COLUMNS = ["source", "file", "position", "reason", "raw"]
_BATCH_LETTERS = 1_000  # a raw record may be large
_SPELLED_BYTE = re.compile(rb"\\x([89a-f][0-9a-f])")
# What JSON allows in a string, but a terminal, an editor or UTF-8 does not.
_TO_ESCAPE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class DeadLetterRecord:
    """A dead letter as the ingestion stored it."""

    file: str
    position: int
    reason: str
    raw: str

    @property
    def is_split(self) -> bool:
        """Whether the record had fields, and one of them was at fault."""
        return self.reason.startswith("`")  # the field's name

    @property
    def rule(self) -> str:
        """The rule it broke, without what was seen."""
        return rule_of(self.reason)

    @property
    def letter(self) -> str:
        """The same for the same record at the same place, whatever the config says."""
        parts = (self.file, str(self.position), self.raw)
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]


@dataclasses.dataclass
class LetterCounts:
    """What an export came to.

    Attributes:
        exported: letters written.
        unsplit: of these, without fields.
        replayed: letters left out, as a mended copy was replayed.
        rules: how many of those exported broke each rule.
        examples: file and position of the first one for each rule.
    """

    exported: int = 0
    unsplit: int = 0
    replayed: int = 0
    rules: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    examples: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)


def read_letters(folder: Path, table: str) -> Iterator[DeadLetterRecord]:
    """Yields the dead letters of one table from a `DeadLetters` artifact, in order."""
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_LETTERS, columns=_COLUMNS):
                for row in batch.to_pylist():
                    if row.pop("source") == table:
                        yield DeadLetterRecord(**row)


def as_mendable(
    letters: Iterable[DeadLetterRecord], columns: ColumnMap, delimiter: str
) -> Iterator[dict[str, Any]]:
    """Yields each letter as the object that a person mends.

    Args:
        letters: of one table.
        columns: the table's names when it was read.
        delimiter: of its CSV files.

    Not checked: that a CSV file still has the header it had when it was read.
    """
    headers: dict[str, list[str] | None] = {}
    check_own_names(columns)
    for letter in letters:
        fields = None
        if letter.is_split:
            # What is no JSON object is of a CSV file, or a tf.Example.
            fields = parse_object(letter.raw)
            if fields is None and letter.raw.startswith("\n"):
                fields = _example_fields(letter.raw)
            if fields is None:
                if letter.file not in headers:
                    headers[letter.file] = _csv_header(letter.file, columns, delimiter)
                fields = _csv_fields(letter.raw, headers[letter.file], delimiter)
        yield {
            REASON: letter.reason,
            FILE: letter.file,
            POSITION: letter.position,
            LETTER: letter.letter,
            **({RAW: letter.raw} if fields is None else without_ours(fields)),
        }


def count_letters(
    letters: Iterable[DeadLetterRecord], skipped: Collection[str], counts: LetterCounts
) -> Iterator[DeadLetterRecord]:
    """Yields the letters that are not among `skipped`, and counts both kinds."""
    for letter in letters:
        if skipped and letter.letter in skipped:
            counts.replayed += 1
            continue
        counts.exported += 1
        counts.rules[letter.rule] += 1
        counts.examples.setdefault(letter.rule, (letter.file, letter.position))
        yield letter


def rule_of(reason: str) -> str:
    """Returns the rule that a reason names, without what was seen."""
    return reason.partition(". Received: ")[0]


def check_own_names(columns: ColumnMap) -> None:
    """Raises IngestionError if a declared column is called like a key of ours."""
    for canonical, own in columns.own.items():
        if own in _OURS:
            raise IngestionError(
                f"the column `{own}` (`{canonical}`) bears a name that the export of "
                f"dead letters keeps for itself ({', '.join(sorted(_OURS))}). Rename it "
                "in the log and under `columns`."
            )


def without_ours(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record without the keys of ours; `_id` and its like are the log's."""
    return {name: value for name, value in record.items() if name not in _OURS}


def parse_object(text: str) -> dict[str, Any] | None:
    """Returns the JSON object that `text` is, None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def to_line(record: dict[str, Any]) -> str:
    """Returns a record as one line of JSON that any tool can read and write back."""
    text = json.dumps(record, ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _csv_header(path: str, columns: ColumnMap, delimiter: str) -> list[str] | None:
    """Returns the names in a CSV file's header, None if it cannot be read any more."""
    try:
        handle = streams.open_stream(path)
        try:
            fields = next(_csv_records(handle, delimiter), None)
        finally:
            handle.close()
    except (IngestionError, *streams.READ_ERRORS):
        return None
    if not fields:
        return None
    names = [name.strip() for name in fields]
    names[0] = names[0].removeprefix("\ufeff")
    return names if columns.required <= set(names) else None


def _csv_fields(
    raw: str, header: list[str] | None, delimiter: str
) -> dict[str, Any] | None:
    """Returns a CSV record by its header's names; an empty field is missing."""
    records = list(_csv_records(io.BytesIO(raw.encode()), delimiter))
    if header is None or len(records) != 1 or len(records[0]) != len(header):
        return None
    return {name: field or None for name, field in zip(header, records[0], strict=True)}


def _csv_records(handle: streams.Stream, delimiter: str) -> Iterator[list[str]]:
    """Yields the fields of each record that has any."""
    reader = CsvReader(read_lines(handle), delimiter)
    while reader.has_line():
        record = reader.read_record()
        if isinstance(record, CsvRecord):
            yield record.fields
        elif record is not None:
            yield []


def _example_fields(raw: str) -> dict[str, Any] | None:
    """Returns the fields of a tf.Example stored as text, None if it is none.

    Bytes that are not UTF-8 were spelled out when it was stored. Should a string of the
    record have looked like such a spelling, the lengths within no longer fit.
    """
    data = _SPELLED_BYTE.sub(
        lambda found: bytes([int(found[1], 16)]), raw.encode("utf-8")
    )
    try:
        return tfrecord_object(data)
    except ValueError:
        return None
