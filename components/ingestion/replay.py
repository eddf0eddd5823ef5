"""Checks mended dead letters as the ingestion would, and keeps those that pass for it.

A replayed record becomes a line of JSON under the service's own names in a file named by
its content; the next ingestion reads it beside the log. Nothing is lost: what does not
pass goes, with its reason, into a file that can be mended and replayed in its turn.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from components.ingestion.dead_letters import (
    FILE,
    LETTER,
    POSITION,
    RAW,
    REASON,
    check_own_names,
    rule_of,
    to_line,
    without_ours,
)
from components.ingestion.line_file import LineFile
from components.ingestion.parsing import parse_events, parse_side_table
from components.ingestion.raw_batch import RawBatch, column, text_of
from components.ingestion.settings import DataSettings, Format
from components.ingestion.sources import SourceFile, column_maps, sources_of
from schemas.features import ITEM_ID, USER_ID, FeatureCatalog

REPLAYED_FILES = "*.jsonl"
_LETTERS_ENDING = ".letters"  # beside a replayed file: the dead letters it mends
_BATCH_RECORDS = 10_000
_LINE_RULE = "the line should be one JSON object, in UTF-8"
_RAW_RULE = f"the record's fields should stand in place of `{RAW}`"


@dataclasses.dataclass
class ReplayCounts:
    """What a replay came to; replayed + known + left is the number of records.

    Attributes:
        replayed: records kept for the next ingestion.
        known: records that an earlier replay kept, to the letter.
        left: records that would be dead letters still.
        unmended: of these, without fields.
        rules: how many of those left broke each rule.
        file: what holds those replayed, None for none.
        left_file: what holds those left, None for none.
    """

    replayed: int = 0
    known: int = 0
    left: int = 0
    unmended: int = 0
    rules: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    file: Path | None = None
    left_file: Path | None = None


def read_mended(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a file that a person mended; empty lines are none.

    A line that is no JSON object comes as a record that is not split into fields.
    """
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            line = line.rstrip(b"\r\n")
            if not line.strip():
                continue
            try:
                record = json.loads(line.decode("utf-8"))
                if not isinstance(record, dict):
                    raise ValueError(f"a JSON {type(record).__name__}")
            except (ValueError, RecursionError) as error:
                seen = str(error) or type(error).__name__
                reason = f"{_LINE_RULE}. Received: {seen}"
                record = {REASON: reason, RAW: text_of(line)}
            record.setdefault(FILE, str(path))
            record.setdefault(POSITION, number)
            yield record


def replayed_letters(folder: Path) -> set[str]:
    """Returns the dead letters that the replayed files of a folder mend."""
    letters: set[str] = set()
    for file in folder.glob(REPLAYED_FILES):
        with contextlib.suppress(FileNotFoundError):
            letters.update(file.with_suffix(_LETTERS_ENDING).read_text().split())
    return letters


def replay(
    records: Iterable[dict[str, Any]],
    table: str,
    settings: DataSettings,
    catalog: FeatureCatalog,
    folder: Path,
    left_name: Path,
) -> ReplayCounts:
    """Keeps the records that pass for the next ingestion, and the others for a person.

    The same records again add nothing, as do lines that an earlier call kept.

    Args:
        records: as a person mended them, or as they were stored.
        table: events, items or users.
        settings: the present ones; they declare `table`.
        catalog: the declared features.
        folder: of the replayed files of this table.
        left_name: names the file of what is left; a hash goes before its ending.

    Raises:
        FileExistsError: if a replayed file was edited by hand since.
    """
    columns = column_maps(settings, catalog)[table]
    check_own_names(columns)
    # Undeclared columns of items come along into the catalogue, where those of a
    # Parquet table (a date, a list) do not go together with what JSON makes of them.
    kept = set(columns.own.values()) if table == "items" else None
    counts = ReplayCounts()
    known = set(_line_digests(folder))
    with (
        LineFile(folder) as passed,
        LineFile(folder) as letters,
        LineFile(left_name.parent) as left,
    ):
        for batch in _batched(records):
            for record, fields, reason in _checked(batch, table, settings, catalog):
                if reason:
                    _leave(record, fields, reason, left, counts)
                    continue
                if kept is not None:
                    fields = {name: fields[name] for name in fields if name in kept}
                line = to_line(fields)
                digest = _digest(line.encode())
                if digest in known:
                    counts.known += 1
                    continue
                known.add(digest)
                passed.write(line)
                letter = record.get(LETTER)
                if isinstance(letter, str) and letter.isalnum() and letter.isascii():
                    letters.write(letter)
        counts.replayed, counts.left = passed.num_lines, left.num_lines
        if counts.left:
            name = f"{left_name.stem}-{left.content_hash}{left_name.suffix}"
            counts.left_file = left_name.with_name(name)
            # Where a person is at work on it already, their file stays.
            with contextlib.suppress(FileExistsError):
                left.publish(name)
        if counts.replayed:
            name = passed.content_hash
            if letters.num_lines:
                with contextlib.suppress(FileExistsError):
                    letters.publish(f"{name}{_LETTERS_ENDING}")
            counts.file = passed.publish(f"{name}.jsonl")
    return counts


def _checked(
    records: list[dict[str, Any]],
    table: str,
    settings: DataSettings,
    catalog: FeatureCatalog,
) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """Yields (record, its fields, why it is left or "") in the order of the records."""
    fields = [without_ours(record) for record in records]
    reasons = dict(_faults(fields, table, settings, catalog))
    for row, record in enumerate(records):
        if RAW in record and not fields[row]:
            reasons[row] = str(record.get(REASON) or _RAW_RULE)
        yield record, fields[row], reasons.get(row, "")


def _faults(
    fields: list[dict[str, Any]],
    table: str,
    settings: DataSettings,
    catalog: FeatureCatalog,
) -> Iterator[tuple[int, str]]:
    """Yields (row, reason) of the records that the ingestion would refuse."""
    names = dict.fromkeys(name for record in fields for name in record)
    batch = RawBatch(
        {name: column([record.get(name) for record in fields]) for name in names},
        np.arange(len(fields)),
        lambda row: to_line(fields[row]),
        [],
    )
    columns = column_maps(settings, catalog)[table]
    if table == "events":
        file = SourceFile(table, 0, "", Format.JSONL, replayed=True)
        _, dead = parse_events(batch, columns, settings, catalog, file)
    else:
        is_item = table == "items"
        _, dead = parse_side_table(
            batch,
            columns,
            sources_of(settings)[table],
            ITEM_ID if is_item else USER_ID,
            catalog.item if is_item else catalog.user,
        )
    for letter in dead:
        yield letter.position, letter.reason


def _leave(
    record: dict[str, Any],
    fields: dict[str, Any],
    reason: str,
    left: LineFile,
    counts: ReplayCounts,
) -> None:
    counts.rules[rule_of(reason)] += 1
    counts.unmended += not fields
    # Where fields take the place of `_raw`, it is of no more use.
    ours = (FILE, POSITION, LETTER) if fields else (FILE, POSITION, LETTER, RAW)
    kept = {name: record[name] for name in ours if name in record}
    left.write(to_line({REASON: reason} | kept | fields))


def _batched(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(records)
    while batch := list(itertools.islice(iterator, _BATCH_RECORDS)):
        yield batch


def _line_digests(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.glob(REPLAYED_FILES)):
        with path.open("rb") as handle:
            for line in handle:
                yield _digest(line.removesuffix(b"\n"))


def _digest(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()[:16]
