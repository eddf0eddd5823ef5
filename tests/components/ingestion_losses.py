"""Ingestions whose accounts are wrong: each plants one fault, and must be rejected."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion import output, parsing, stages, tables


def dropped_record(monkeypatch):
    """A reader that loses the last record of each batch."""
    _each_batch(monkeypatch, lambda values: values[:-1])


def repeated_record(monkeypatch):
    """A reader that gives the last record of each batch twice."""
    _each_batch(monkeypatch, _with_last_twice)


def _each_batch(monkeypatch, change):
    read = stages.read_batches

    def read_batches(block, source, column_map):
        for batch in read(block, source, column_map):
            if block.file.table == "events" and len(batch.positions):
                last = len(batch.positions) - 1
                batch = dataclasses.replace(
                    batch,
                    columns={name: change(v) for name, v in batch.columns.items()},
                    positions=change(batch.positions),
                    raw=lambda row, raw=batch.raw, last=last: raw(min(row, last)),
                )
            yield batch

    monkeypatch.setattr(stages, "read_batches", read_batches)


def _with_last_twice(values):
    if isinstance(values, pa.Array):
        return pa.concat_arrays([values, values[-1:]])
    return (
        np.append(values, values[-1:])
        if isinstance(values, np.ndarray)
        else [
            *values,
            values[-1],
        ]
    )


def duplicates_counted_twice(monkeypatch):
    count = stages._count_record

    def counted(table, kind, span, number):
        return count(table, kind, span, number * (2 if kind == "duplicates" else 1))

    monkeypatch.setattr(stages, "_count_record", counted)


def _duplicates_of_events(monkeypatch, drop):
    without = tables.without_duplicates

    def without_duplicates(table, keys):
        return drop(table) if keys[0] == "event_id" else without(table, keys)

    monkeypatch.setattr(tables, "without_duplicates", without_duplicates)


def duplicates_kept(monkeypatch):
    _duplicates_of_events(monkeypatch, lambda table: table)


def latest_copy_stays(monkeypatch):
    def latest(table):
        order = [("event_id", "ascending"), ("timestamp", "descending")]
        table = table.sort_by(order)
        ids = table["event_id"].to_pylist()
        first = [row for row, name in enumerate(ids) if row == ids.index(name)]
        return table.take(pa.array(first, pa.int64()))

    _duplicates_of_events(monkeypatch, latest)


def late_events_accepted(monkeypatch):
    monkeypatch.setattr(parsing, "_check_span", lambda *args: None)


def _each_letter_table(monkeypatch, change):
    made = output.dead_letter_table
    monkeypatch.setattr(
        output, "dead_letter_table", lambda file, dead: change(made(file, dead))
    )


def letters_written_twice(monkeypatch):
    _each_letter_table(monkeypatch, lambda table: pa.concat_tables([table, table]))


def letters_lost(monkeypatch):
    _each_letter_table(monkeypatch, lambda table: table.slice(1))


def letters_without_their_end(monkeypatch):
    def cut(table):
        short = pc.utf8_slice_codeunits(table["raw"], 0, 20)
        return table.set_column(table.schema.get_field_index("raw"), "raw", short)

    _each_letter_table(monkeypatch, cut)


def letters_of_no_span(monkeypatch):
    def without(table):
        spans = pa.array([""] * table.num_rows)
        return table.set_column(table.schema.get_field_index("span"), "span", spans)

    _each_letter_table(monkeypatch, without)


def _each_shard(monkeypatch, **changes):
    made = stages.shard_events

    def shard_events(*args):
        events = made(*args)
        new = {name: change(events) for name, change in changes.items()}
        return dataclasses.replace(events, **new)

    monkeypatch.setattr(stages, "shard_events", shard_events)


def capped_events_forgotten(monkeypatch):
    _each_shard(monkeypatch, num_capped=lambda events: 0)


def responses_counted_as_orphans(monkeypatch):
    """Fate 4 (an orphan) for whatever has one."""
    _each_shard(monkeypatch, fates=lambda e: np.where(e.fates > 0, 4, e.fates))


def impressions_lost(monkeypatch):
    """The labelled rows of a shard but the first are gone."""
    _each_shard(monkeypatch, is_labelled=lambda e: e.is_labelled & (e.by_user == 0))


def counters_without_dead_letters(monkeypatch):
    counter = stages.Metrics.counter

    def told(namespace, name):
        silent = name.startswith("events_dead_letters")
        return counter("nowhere" if silent else namespace, name)

    monkeypatch.setattr(stages.Metrics, "counter", told)
