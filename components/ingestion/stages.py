"""The stages that Beam runs: each takes Arrow tables in IPC form, not single events."""

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from components.ingestion import output, rows, tables
from components.ingestion.blocks import Block
from components.ingestion.parsing import (
    SOURCE_FILE,
    SOURCE_POSITION,
    DeadLetter,
    parse_events,
    parse_side_table,
)
from components.ingestion.plan import Plan
from components.ingestion.profiles import user_profiles
from components.ingestion.raw_batch import RawBatch
from components.ingestion.records import read_batches
from components.ingestion.responses import Fate
from components.ingestion.shard import ShardEvents, shard_events
from components.ingestion.spans import newest_span_start, span_starts
from components.ingestion.splits import SplitCuts, split_cuts
from components.ingestion.summary import EXAMPLES, counter
from schemas.events import PROFILES_AS_OF, SPLITS, items_schema, users_schema
from schemas.features import EVENT_ID, ITEM_ID, TIMESTAMP, USER_ID

# Names of the outputs beside the main ones.
COUNTS, TIMES, IDS, FACTS = "counts", "times", "ids", "facts"


def _count(*names: str, number: int) -> Iterator[TaggedOutput]:
    """Counts for the summary, and as a Beam counter."""
    if number:
        Metrics.counter("ingestion", "_".join(names)).inc(number)
        yield TaggedOutput(COUNTS, (counter(*names), number))


def _count_record(
    table: str, kind: str, span: str, number: int
) -> Iterator[TaggedOutput]:
    """Counts records of a source: in all, and those of one of its spans."""
    yield from _count(table, kind, number=number)
    if number:
        Metrics.counter("ingestion", f"{table}_{kind}[{span}]").inc(number)
        yield TaggedOutput(COUNTS, (counter(table, kind, "span", span), number))


class Parse(beam.DoFn):
    """Block -> (shard, rows); items stay together, as every worker joins with them."""

    def __init__(self, plan: Plan, table: str):
        self._plan = plan
        self._table = table

    def process(self, block: Block):
        plan, table = self._plan, self._table
        span = block.file.span
        columns = plan.columns[table]
        letters = output.TableFile(
            plan.outputs.dead_letter(table, block.file.index, block.index)
        )
        for batch in read_batches(block, plan.source(table), columns):
            accepted, dead = self._parse(batch, block)
            yield from _count_record(table, "read", span, batch.num_read)
            yield from _count_record(table, "dead_letters", span, len(dead))
            reasons = collections.Counter((x.field, x.rule) for x in dead)
            for (field, rule), number in reasons.items():
                key = counter(table, "reason", field, rule)
                yield TaggedOutput(COUNTS, (key, number))
            if dead:
                letters.write(output.dead_letter_table(block.file, dead))
            if table == "items":
                yield tables.to_bytes(accepted)
                continue
            key = EVENT_ID if table == "events" else USER_ID
            for shard, part in tables.partition(accepted, key, plan.num_shards):
                yield shard, tables.to_bytes(part)
        letters.commit()

    def _parse(
        self, batch: RawBatch, block: Block
    ) -> tuple[pa.Table, list[DeadLetter]]:
        plan, table = self._plan, self._table
        columns = plan.columns[table]
        if table == "events":
            return parse_events(batch, columns, plan.settings, plan.catalog, block.file)
        is_item = table == "items"
        return parse_side_table(
            batch,
            columns,
            plan.source(table),
            ITEM_ID if is_item else USER_ID,
            plan.catalog.item if is_item else plan.catalog.user,
            block.file.index,
            keep_extra=is_item,
        )


def _unique(
    plan: Plan, table: str, parts: list[bytes], keys: tuple[str, ...]
) -> tuple[pa.Table, list[TaggedOutput]]:
    """Joins the parts of a table, drops duplicates, and counts both kinds by span.

    The columns of origin stay.
    """
    whole = tables.concat(parts, plan.empty(table))
    unique = tables.without_duplicates(whole, keys)
    spans = plan.span_of_file(table)
    read, kept = (
        np.bincount(rows[SOURCE_FILE].to_numpy(), minlength=len(spans))
        for rows in (whole, unique)
    )
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for span, num_read, num_kept in zip(
        spans, read.tolist(), kept.tolist(), strict=True
    ):
        counts["accepted", span] += num_kept
        counts["duplicates", span] += num_read - num_kept
    counted = [
        output
        for (kind, span), number in counts.items()
        for output in _count_record(table, kind, span, number)
    ]
    return unique, counted


class DropDuplicates(beam.DoFn):
    """(shard of event_id, parts) -> (shard of user_id, rows), and what others need."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, element):
        _, parts = element
        plan = self._plan
        unique, counted = _unique(plan, "events", parts, (EVENT_ID, TIMESTAMP))
        yield from counted
        timestamps = unique[TIMESTAMP].to_numpy()
        earliest = _earliest(plan, unique[SOURCE_FILE].to_numpy(), timestamps)
        yield TaggedOutput(TIMES, (timestamps.tobytes(), earliest))
        unique = _without_origin(unique)
        if "items" not in plan.files:
            ids = pa.table({ITEM_ID: unique[ITEM_ID].unique()})
            yield TaggedOutput(IDS, tables.to_bytes(ids))
        for shard, part in tables.partition(unique, USER_ID, plan.num_shards):
            yield shard, tables.to_bytes(part)


def _earliest(plan: Plan, files: np.ndarray, timestamps: np.ndarray) -> dict[str, int]:
    """Returns the earliest timestamp of each span that has events."""
    spans = plan.span_of_file("events")
    first = np.full(len(spans), np.iinfo(np.int64).max)
    np.minimum.at(first, files, timestamps)
    indices = np.unique(files).tolist()
    return _least((spans[index], int(first[index])) for index in indices)


def _least(times: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Returns the least time of each span."""
    least: dict[str, int] = {}
    for span, time in times:
        least[span] = min(time, least.get(span, time))
    return least


class CutSplits(beam.CombineFn):
    """(timestamps, the earliest of each span) of all events -> SplitCuts."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, element):
        accumulator.append(element)
        return accumulator

    def merge_accumulators(self, accumulators):
        return [self._merged([part for parts in accumulators for part in parts])]

    def extract_output(self, accumulator) -> SplitCuts:
        spans, split = self._plan.span_of_file("events"), self._plan.settings.split
        timestamps, earliest = self._merged(accumulator)
        starts = span_starts(spans, earliest)
        test_from = newest_span_start(spans, starts) if split.newest_span else None
        cuts = split_cuts(np.frombuffer(timestamps, np.int64), split, test_from)
        return dataclasses.replace(cuts, span_starts=starts)

    @staticmethod
    def _merged(
        parts: list[tuple[bytes, dict[str, int]]],
    ) -> tuple[bytes, dict[str, int]]:
        earliest = _least(pair for _, found in parts for pair in found.items())
        return b"".join(timestamps for timestamps, _ in parts), earliest


class WriteCatalog(beam.DoFn):
    """All items -> the catalogue's files, and the table that rows are joined with."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, parts):
        plan = self._plan
        if "items" in plan.files:
            items, counted = _unique(plan, "items", parts, (ITEM_ID,))
            yield from counted
            items = _without_origin(items).sort_by(ITEM_ID)
        else:
            seen = tables.concat(parts, pa.table({ITEM_ID: pa.array([], pa.string())}))
            ids = pa.table({ITEM_ID: seen[ITEM_ID].unique()}).sort_by(ITEM_ID)
            schema = items_schema(plan.catalog)
            items = pa.concat_tables(
                [schema.empty_table(), ids], promote_options="default"
            )
        items = items.combine_chunks()
        yield from _count("catalog", number=items.num_rows)
        path = plan.outputs.file("catalog", "items.parquet")
        output.write_parquet(path, items)
        output.write_records(
            plan.outputs.file("catalog", "items.tfrecord.gz"),
            rows.item_examples(items, plan.catalog),
        )
        yield tables.to_bytes(items.select(items_schema(plan.catalog).names))


class EncodeRows(beam.DoFn):
    """(shard, events and users) -> the shard's files; counts and facts come out."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, element, cuts: SplitCuts, items: bytes):
        shard, parts = element
        plan = self._plan
        users = plan.empty("users")
        if "users" in plan.files:
            users, counted = _unique(plan, "users", parts["users"], (USER_ID,))
            yield from counted
        users = users.select(users_schema(plan.catalog).names)
        raw = tables.concat(parts["events"], _without_origin(plan.empty("events")))
        events = shard_events(raw, plan.settings, plan.closed_at(cuts))
        shard_rows = rows.ShardRows(
            events, users, tables.from_bytes(items), plan.settings, plan.catalog
        )
        yield from self._write(shard, shard_rows, cuts)
        for split, number in shard_rows.num_events(cuts).items():
            yield from _count("split", split, number=number)
        yield from _count("unknown_items", number=shard_rows.num_unknown_items)
        if "users" in plan.files:
            yield from _count("unknown_users", number=shard_rows.num_unknown_users)
        yield from _count_events(events)
        profiles = user_profiles(events, users, plan.catalog)
        as_of = str(plan.closed_at(cuts)).encode()
        output.write_parquet(
            plan.outputs.profile(shard, plan.num_shards),
            profiles.replace_schema_metadata({PROFILES_AS_OF: as_of}),
        )

    def _write(self, shard: int, shard_rows: rows.ShardRows, cuts: SplitCuts):
        plan = self._plan
        # Each shard writes a file for each split, even an empty one: a split without
        # files is an error to the stages behind, one without rows is a finding.
        files = {
            (name, split): output.RecordFile(
                plan.outputs.examples(name, split, shard, plan.num_shards)
            )
            for name in EXAMPLES
            for split in SPLITS
        }
        for chunk in shard_rows.chunks(cuts):
            masks = (chunk.is_interaction, chunk.is_impression)
            for name, mask in zip(EXAMPLES, masks, strict=True):
                chosen = chunk.examples.filter(pa.array(mask))
                files[name, chunk.split].write(chosen)
                yield from _count(name, chunk.split, number=len(chosen))
            if chunk.facts is not None:
                yield TaggedOutput(FACTS, (chunk.split, chunk.facts))
        for file in files.values():
            file.commit()


def _count_events(events: ShardEvents) -> Iterator[TaggedOutput]:
    """Counts what the events of a shard came to."""
    yield from _count("users", number=len(events.user_ids))
    yield from _count("sessions", number=events.num_sessions)
    yield from _count("capped_events", number=events.num_capped)
    yield from _count("capped_users", number=events.num_capped_users)
    fates = np.bincount(events.fates, minlength=len(Fate)).tolist()
    for fate in (Fate.JOINED, Fate.LATE, Fate.EARLY, Fate.ORPHAN):
        yield from _count("responses", fate.name.lower(), number=fates[fate])
    yield from _count("responses", "answered", number=events.num_answered)
    num_open = int(np.count_nonzero(events.is_open))
    yield from _count("responses", "open", number=num_open)


def _without_origin(table: pa.Table) -> pa.Table:
    return table.drop_columns([SOURCE_FILE, SOURCE_POSITION])
