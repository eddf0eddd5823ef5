"""Hostile logs: good and bad records side by side, in every format and in spans.

Each entry of a file knows what stands in the file and what the ingestion owes it. The
files are written by other libraries than the one that reads them.
"""

import csv
import dataclasses
import gzip
import io
import json
import math
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from tests.components import ingestion_logs as logs
from tests.components import ingestion_world as world
from tests.components.ingestion_account import LogFile, day_start

FORMATS = ("jsonl", "jsonl.gz", "csv", "csv.gz", "parquet", "tfrecord", "tfrecord.gz")
COLUMNS = pa.schema(
    [
        ("event_id", pa.string()),
        ("timestamp", pa.int64()),
        ("event_type", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("request_id", pa.string()),
        ("value", pa.float64()),
        ("position", pa.int64()),
        ("propensity", pa.float64()),
        ("device", pa.string()),
        ("hour", pa.float64()),
    ]
)
# What makes a record bad, (field, value), in any format.
TYPED_FAULTS = (
    ("event_id", None),
    ("event_id", " "),
    ("event_id", "x" * 1025),
    ("user_id", ""),
    ("item_id", None),
    ("timestamp", None),
    ("timestamp", -1),
    ("event_type", "hover"),
    ("event_type", None),
    ("value", math.inf),
    ("position", -1),
    ("propensity", 0.0),
    ("propensity", 1.5),
    ("propensity", math.nan),
    ("hour", math.nan),
)
TEXT_FAULTS = (
    *TYPED_FAULTS,
    ("timestamp", "yesterday"),
    ("value", "high"),
    ("position", "1.5"),
    ("propensity", "likely"),
)
BROKEN_LINES = (b'{"event_id": "e1", "timest', b"[1, 2]", b'"text"', b"\xff{}", b"null")
BROKEN_CSV = (b"three,fields,alone", b"\xffe1" + b"," * 10, b"e1" + b"," * 11)
BROKEN_RECORDS = (b"{oops", b"\xff\xff\xff", b"not a proto", b"[]")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One record of a file."""

    content: dict | bytes  # bytes: does not split into fields
    field: str | None = None  # the field at fault, "" for the whole, None: no fault

    @property
    def record(self):
        """Returns the record as the oracle takes it."""
        return self.content if self.field is None else None


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where an entry stands and what it looks like there."""

    position: int
    raw: str | dict  # dict: any JSON of these values


@dataclasses.dataclass(frozen=True)
class HostileFile:
    entries: list
    span: str
    format: str


@st.composite
def hostile_logs(draw, sizes=(15, 40)):
    """Returns (Log of what is not bad in itself, files of entries)."""
    log = draw(logs.logs(sizes))
    chance = random.Random(draw(st.integers(0, 2**32 - 1)))
    return spoilt(log, chance)


def spoilt(log, chance):
    """Puts bad records between the good ones, and the records into files of formats."""
    files = []
    for file in log.files:
        cut = chance.randrange(len(file.records) + 1)
        for part in (file.records[:cut], file.records[cut:]):
            is_replayed = not file.span and log.files[0].span
            kind = "jsonl" if is_replayed else chance.choice(FORMATS)
            entries = [_entry(record, chance) for record in part]
            bad = [_bad(kind, file.span, chance) for _ in range(chance.randrange(5))]
            for entry in bad:
                entries.insert(chance.randrange(len(entries) + 1), entry)
            files.append(HostileFile(entries, file.span, kind))
    told = [LogFile([e.record for e in file.entries], file.span) for file in files]
    return dataclasses.replace(log, files=told), files


def _entry(record, chance):
    if chance.random() < 0.1:  # what CSV must quote
        record = record | {"device": 'a "big"\ntv, new'}
    return Entry(record)


def _bad(kind, span, chance):
    """Returns a record that is bad by itself, wherever it stands."""
    broken = {"jsonl": BROKEN_LINES, "csv": BROKEN_CSV, "tfrecord": BROKEN_RECORDS}
    kind = kind.removesuffix(".gz")
    if kind in broken and chance.random() < 0.4:
        return Entry(chance.choice(broken[kind]), "")
    field, value = chance.choice(TYPED_FAULTS if kind == "parquet" else TEXT_FAULTS)
    record = logs.record(chance) | {"timestamp": (day_start(span) or logs.MIDNIGHT) + 1}
    if field == "value" and chance.random() < 0.5:  # its label is made of nothing
        record, value = record | {"event_type": "rating"}, None
    return Entry(record | {field: value}, field)


# --- Writing ----------------------------------------------------------------------------


def write(path, file):
    """Writes a file; returns the Placed of each entry."""
    path = pathlib.Path(path)
    kind = file.format.removesuffix(".gz")
    if kind == "parquet":
        return _write_parquet(path, file.entries)
    if kind == "tfrecord":
        return _write_records(path, file.entries, file.format)
    data, placed = {"jsonl": _json_lines, "csv": _csv}[kind](file.entries)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return placed


def _json_lines(entries):
    lines, placed = [], []
    for number, entry in enumerate(entries):
        if number % 4 == 3:
            lines.append(b"  ")  # an empty line is no record, and counts as a line
        line = entry.content
        if isinstance(line, dict):
            given = {k: v for k, v in line.items() if v is not None or number % 2}
            line = json.dumps(given).encode()
        lines.append(line)
        placed.append(Placed(len(lines), text(line)))
    return b"".join(line + b"\n" for line in lines), placed


def _csv(entries):
    header = ",".join(COLUMNS.names).encode() + b"\n"
    lines, placed = [header], []
    for entry in entries:
        line = entry.content
        if isinstance(line, dict):
            sink = io.StringIO()
            row = [line[name] for name in COLUMNS.names]
            csv.writer(sink, lineterminator="").writerow(row)
            line = sink.getvalue().encode()
        placed.append(Placed(b"".join(lines).count(b"\n") + 1, text(line)))
        lines.append(line + b"\n")
    return b"".join(lines), placed


def _write_parquet(path, entries):
    rows = [entry.content for entry in entries]
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    pq.write_table(table, path, row_group_size=3)
    return [Placed(number, row) for number, row in enumerate(rows, start=1)]


def _write_records(path, entries, kind):
    import tensorflow as tf

    options = "GZIP" if kind.endswith(".gz") else ""
    placed = []
    with tf.io.TFRecordWriter(str(path), options=options) as writer:
        for number, entry in enumerate(entries, start=1):
            data = entry.content
            if isinstance(data, dict):
                as_json = json.dumps(data).encode()
                data = _example(data) if number % 2 else as_json
            writer.write(data)
            placed.append(Placed(number, text(data)))
    return placed


def _example(record):
    from tensorflow.core.example.example_pb2 import Example

    out = Example()
    for name, value in record.items():
        feature = out.features.feature[name]
        if isinstance(value, str):
            feature.bytes_list.value.append(value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        elif value is not None:
            feature.float_list.value.append(value)
    return out.SerializeToString(deterministic=True)


def text(data):
    return data.decode("utf-8", "backslashreplace")


# --- Side tables, the same for each log -------------------------------------------------

USER_LINES = (
    "u0,31",  # kept
    "u1,",
    "u0,99",  # duplicate
    ",5",  # no id
    "quiet,64",
    "u1,old",  # bad before it is a duplicate
    "u1,7",
)
USER_COUNTS = {"read": 7, "accepted": 3, "duplicates": 2, "dead_letters": 2}
ITEM_FAULTS = ('{"item_id": "i0", "title": 5, "genres": {}}', "{oops")
ITEM_COUNTS = {"read": 9, "accepted": 6, "duplicates": 1, "dead_letters": 2}


def write_side_tables(folder):
    """Writes items and users with faults; both come to those of the full service."""
    lines = ["user_id,age", *USER_LINES]
    (folder / "users.csv").write_text("\n".join(lines))
    items = [{"item_id": name} | item for name, item in world.FULL_ITEMS.items()]
    again = {"item_id": "i0", "title": "Never", "genres": []}
    rows = [*map(json.dumps, items), ITEM_FAULTS[0], json.dumps(again), ITEM_FAULTS[1]]
    (folder / "items.jsonl").write_text("\n".join(rows))


def settings(folder, log, files):
    """Writes all; returns (settings, {(path): (file, [Placed])})."""
    write_side_tables(folder)
    first = files[0].span
    pattern = "{SPAN}" if first.isdecimal() else "{YYYY-MM-DD}" if first else "log"
    replayed, written = None, {}
    for number, file in enumerate(files):
        name = f"part-{number:02}.{file.format}"
        place = folder / f"span-{file.span or 'log'}" / name
        if first and not file.span:
            replayed = str(folder / "mended" / "*.jsonl")
            place = folder / "mended" / name
        place.parent.mkdir(exist_ok=True)
        written[str(place)] = (file, write(place, file))
    made = world.settings_of(
        log.declared,
        folder,
        events={"path": f"{folder}/span-{pattern}/part-*", "replayed": replayed},
        items={"path": f"{folder}/items.jsonl"},
        users={"path": f"{folder}/users.csv"},
        shards=log.num_shards,
    )
    return made, written
