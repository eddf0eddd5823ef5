"""A file of events, read and laid out by position; shared by the tests of the readers."""

import json

import pyarrow as pa

from components.ingestion import blocks
from components.ingestion.records import read_batches
from components.ingestion.sources import SourceFile, column_maps
from tests.components import ingestion_world as world

SETTINGS = world.settings(events={"path": "unused"})
COLUMNS = column_maps(SETTINGS, world.CATALOG)["events"]
NUMBERS = {"timestamp", "value", "position", "propensity"}
WANTED = {*NUMBERS, "event_id", "user_id", "item_id", "event_type", "request_id"}


def plain(values):
    return values.to_pylist() if isinstance(values, pa.Array) else values


def batches(path, kind, batch_records=1000, table="events", source=SETTINGS.events):
    file = SourceFile(table, 0, str(path), kind)
    return list(read_batches(blocks.whole(file), source, COLUMNS, batch_records))


def as_read(found):
    """Returns {position: (named values, raw) or None for a broken record}."""
    out = {}
    for batch in found:
        columns = {name: plain(values) for name, values in batch.columns.items()}
        for row, position in enumerate(batch.positions.tolist()):
            record = {name: values[row] for name, values in columns.items()}
            assert position not in out
            out[position] = (normal(record), batch.raw(row))
        for broken in batch.broken:
            assert broken.position not in out
            out[broken.position] = (None, broken.raw)
    return out


def normal(record):
    """Keeps what parsing reads, with types told apart; 1 is 1.0 where numbers are."""
    out = {}
    for name, value in record.items():
        if name in WANTED and value is not None:
            if name in NUMBERS and type(value) is int:
                value = float(value)
            out[name] = repr(value)  # NaN is itself here, -0.0 is not 0.0
    return out


def plain_lines(number, start=0):
    return [
        json.dumps(
            world.event(f"e{i}", timestamp=10**12 + i, value=i / 7, position=i % 9)
        ).encode()
        for i in range(start, start + number)
    ]
