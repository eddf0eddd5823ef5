"""The Beam pipeline: read, check, deduplicate, split, join, encode, account.

Elements between stages are Arrow tables in IPC form, not single events. Events move
twice: to the shard of their event_id, where duplicates meet, and to the shard of their
user, where histories are made. No stage holds the log in one process; only its
timestamps meet in one place, 8 bytes an event, for the exact rank of the split.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, TaggedOutput

from components.ingestion import output, rows, tables
from components.ingestion.errors import IngestionError
from components.ingestion.output import OutputPaths
from components.ingestion.parsing import (
    SOURCE_FILE,
    SOURCE_POSITION,
    DeadLetter,
    parse_events,
    parse_side_table,
)
from components.ingestion.records import RawBatch, read_batches
from components.ingestion.settings import DataSettings, Source, SplitSettings
from components.ingestion.sources import (
    ColumnMap,
    SourceFile,
    column_maps,
    input_bytes,
    match_files,
    sources_of,
)
from components.ingestion.splits import SplitCuts, split_cuts
from components.ingestion.summary import EXAMPLES, Summary, counter, summarise
from schemas.events import (
    DEAD_LETTERS,
    SPLITS,
    events_schema,
    items_schema,
    profiles_schema,
    users_schema,
)
from schemas.features import EVENT_ID, ITEM_ID, TIMESTAMP, USER_ID, FeatureCatalog

_MIN_SHARDS, _MAX_SHARDS, _SHARD_BYTES = 4, 4096, 8 << 20

_COUNTS, _DEAD, _TIMES, _IDS, _PROFILES = "counts", "dead", "times", "ids", "profiles"


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that the stages need to know, settled before the pipeline starts."""

    settings: DataSettings
    catalog: FeatureCatalog
    files: dict[str, list[SourceFile]]
    columns: dict[str, ColumnMap]
    num_shards: int
    outputs: OutputPaths

    def source(self, table: str) -> Source:
        return sources_of(self.settings)[table]

    def empty(self, table: str) -> pa.Table:
        """Returns a canonical table without rows, with the columns of origin."""
        schema = {
            "events": events_schema,
            "items": items_schema,
            "users": users_schema,
        }[table](self.catalog)
        schema = schema.append(pa.field(SOURCE_FILE, pa.int32()))
        return schema.append(pa.field(SOURCE_POSITION, pa.int64())).empty_table()


def ingest(
    pipeline: beam.Pipeline,
    settings: DataSettings,
    catalog: FeatureCatalog,
    outputs: OutputPaths,
) -> Summary:
    """Ingests the log on the runner of `pipeline` and waits for the end.

    The files depend on the input and the settings alone, to the byte, not on the runner
    or the order in which workers finish.

    Raises:
        IngestionError: for what the user can mend, and if the accounts do not add up.
    """
    plan = make_plan(settings, catalog, outputs)
    try:
        with pipeline:
            build(pipeline, plan)
    except Exception as error:
        # Runners add the step to a worker's error, or hand it on as text.
        is_ours = isinstance(error, IngestionError)
        text = f"IngestionError: {error}" if is_ours else str(error)
        found = re.search(r"IngestionError: (.*?)(?: \[while running|\n|$)", text)
        if found is None:
            raise
        raise IngestionError(found.group(1)) from error
    with FileSystems.open(outputs.file("summary", "summary.json")) as handle:
        return Summary.model_validate_json(handle.read())


def make_plan(
    settings: DataSettings, catalog: FeatureCatalog, outputs: OutputPaths
) -> Plan:
    """Finds the files and looks at the first of each source.

    Raises:
        IngestionError: if a source has no file, or its first file cannot be read or
            lacks a column.
    """
    maps = column_maps(settings, catalog)
    files = {}
    for table, source in sources_of(settings).items():
        files[table] = match_files(table, source)
        next(read_batches(files[table][0], source, maps[table].required, 1), None)
    by_size = -(-input_bytes(settings.events) // _SHARD_BYTES)
    num_shards = settings.shards or min(max(by_size, _MIN_SHARDS), _MAX_SHARDS)
    return Plan(settings, catalog, files, maps, num_shards, outputs)


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Adds the stages to `pipeline`."""
    read = {table: _read(pipeline, plan, table) for table in plan.files}
    deduplicated = (
        read["events"].events
        | "GroupByEvent" >> beam.GroupByKey()
        | "DropDuplicates"
        >> beam.ParDo(_DropDuplicates(plan)).with_outputs(
            _COUNTS, _TIMES, _IDS, main="events"
        )
    )
    cuts = deduplicated[_TIMES] | "CutSplits" >> beam.CombineGlobally(
        _CutSplits(plan.settings.split)
    )
    item_parts = read["items"].items if "items" in read else deduplicated[_IDS]
    catalog = (
        item_parts
        | "GatherItems" >> beam.combiners.ToList()
        | "WriteCatalog"
        >> beam.ParDo(_WriteCatalog(plan)).with_outputs(_COUNTS, main="items")
    )
    shards = pipeline | "Shards" >> beam.Create(
        [(shard, b"") for shard in range(plan.num_shards)]
    )
    by_user = {"events": deduplicated["events"], "shards": shards}
    if "users" in read:
        by_user["users"] = read["users"].users
    encoded = (
        by_user
        | "GroupByUser" >> beam.CoGroupByKey()
        | "EncodeRows"
        >> beam.ParDo(
            _EncodeRows(plan), AsSingleton(cuts), AsSingleton(catalog["items"])
        ).with_outputs(_COUNTS, main=_PROFILES)
    )
    _ = (
        encoded[_PROFILES]
        | "GatherProfiles" >> beam.combiners.ToList()
        | "WriteProfiles" >> beam.Map(_write_profiles, plan)
    )
    _ = (
        [outputs[_DEAD] for outputs in read.values()]
        | "FlattenDeadLetters" >> beam.Flatten()
        | "GatherDeadLetters" >> beam.combiners.ToList()
        | "WriteDeadLetters" >> beam.Map(_write_dead_letters, plan)
    )
    stages = [*read.values(), deduplicated, catalog, encoded]
    _ = (
        [stage[_COUNTS] for stage in stages]
        | "FlattenCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombinePerKey(sum)
        | "GatherCounts" >> beam.combiners.ToDict()
        | "WriteSummary" >> beam.Map(_write_summary, AsSingleton(cuts), plan)
    )


def _read(pipeline: beam.Pipeline, plan: Plan, table: str):
    return (
        pipeline
        | f"Files[{table}]" >> beam.Create(plan.files[table])
        | f"SpreadFiles[{table}]" >> beam.Reshuffle()
        | f"Parse[{table}]"
        >> beam.ParDo(_Parse(plan, table)).with_outputs(_COUNTS, _DEAD, main=table)
    )


def _count(*names: str, number: int) -> Iterator[TaggedOutput]:
    """Counts for the summary, and as a Beam counter."""
    if number:
        Metrics.counter("ingestion", "_".join(names)).inc(number)
        yield TaggedOutput(_COUNTS, (counter(*names), number))


class _Parse(beam.DoFn):
    """File -> (shard, rows); items stay together, as every worker joins with them."""

    def __init__(self, plan: Plan, table: str):
        self._plan = plan
        self._table = table

    def process(self, file: SourceFile):
        plan, table = self._plan, self._table
        batches = read_batches(file, plan.source(table), plan.columns[table].required)
        for batch in batches:
            accepted, dead = self._parse(batch, file)
            yield from _count(table, "read", number=batch.num_read)
            yield from _count(table, "dead_letters", number=len(dead))
            reasons = collections.Counter((x.field, x.rule) for x in dead)
            for (field, rule), number in reasons.items():
                key = counter(table, "reason", field, rule)
                yield TaggedOutput(_COUNTS, (key, number))
            if dead:
                yield TaggedOutput(_DEAD, _dead_letter_part(file, dead))
            if table == "items":
                yield tables.to_bytes(accepted)
                continue
            key = EVENT_ID if table == "events" else USER_ID
            for shard, part in tables.partition(accepted, key, plan.num_shards):
                yield shard, tables.to_bytes(part)

    def _parse(
        self, batch: RawBatch, file: SourceFile
    ) -> tuple[pa.Table, list[DeadLetter]]:
        plan, table = self._plan, self._table
        columns = plan.columns[table]
        if table == "events":
            return parse_events(batch, columns, plan.settings, plan.catalog, file.index)
        is_item = table == "items"
        return parse_side_table(
            batch,
            columns,
            plan.source(table),
            ITEM_ID if is_item else USER_ID,
            plan.catalog.item if is_item else plan.catalog.user,
            file.index,
            keep_extra=is_item,
        )


class _DropDuplicates(beam.DoFn):
    """(shard of event_id, parts) -> (shard of user_id, rows), and what others need."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, element):
        _, parts = element
        plan = self._plan
        events = tables.concat(parts, plan.empty("events"))
        unique = tables.without_duplicates(events, (EVENT_ID, TIMESTAMP))
        number = events.num_rows - unique.num_rows
        yield from _count("events", "duplicates", number=number)
        yield from _count("events", "accepted", number=unique.num_rows)
        yield TaggedOutput(_TIMES, unique[TIMESTAMP].to_numpy().tobytes())
        if "items" not in plan.files:
            ids = pa.table({ITEM_ID: unique[ITEM_ID].unique()})
            yield TaggedOutput(_IDS, tables.to_bytes(ids))
        for shard, part in tables.partition(unique, USER_ID, plan.num_shards):
            yield shard, tables.to_bytes(part)


class _CutSplits(beam.CombineFn):
    """Timestamps of all events -> SplitCuts."""

    def __init__(self, settings: SplitSettings):
        self._settings = settings

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, element):
        return [*accumulator, element]

    def merge_accumulators(self, accumulators):
        return [b"".join(part for parts in accumulators for part in parts)]

    def extract_output(self, accumulator) -> SplitCuts:
        timestamps = np.frombuffer(b"".join(accumulator), np.int64)
        return split_cuts(timestamps, self._settings)


class _WriteCatalog(beam.DoFn):
    """All items -> the catalogue's files, and the table that rows are joined with."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, parts):
        plan = self._plan
        if "items" in plan.files:
            items = tables.concat(parts, plan.empty("items"))
            unique = tables.without_duplicates(items, (ITEM_ID,))
            number = items.num_rows - unique.num_rows
            yield from _count("items", "duplicates", number=number)
            yield from _count("items", "accepted", number=unique.num_rows)
            items = unique.drop_columns([SOURCE_FILE, SOURCE_POSITION])
        else:
            seen = tables.concat(parts, pa.table({ITEM_ID: pa.array([], pa.string())}))
            ids = pa.table({ITEM_ID: seen[ITEM_ID].unique()}).sort_by(ITEM_ID)
            schema = items_schema(plan.catalog)
            items = pa.concat_tables(
                [schema.empty_table(), ids], promote_options="default"
            ).combine_chunks()
        yield from _count("catalog", number=items.num_rows)
        path = plan.outputs.file("catalog", "items.parquet")
        output.write_parquet(path, items.schema, [items])
        output.write_records(
            plan.outputs.file("catalog", "items.tfrecord.gz"),
            rows.item_examples(items, plan.catalog),
        )
        yield tables.to_bytes(items.select(items_schema(plan.catalog).names))


class _EncodeRows(beam.DoFn):
    """(shard, events and users) -> the shard's files; yields (shard, profiles)."""

    def __init__(self, plan: Plan):
        self._plan = plan

    def process(self, element, cuts: SplitCuts, items: bytes):
        shard, parts = element
        plan = self._plan
        users = tables.concat(parts.get("users", []), plan.empty("users"))
        unique = tables.without_duplicates(users, (USER_ID,))
        number = users.num_rows - unique.num_rows
        yield from _count("users", "duplicates", number=number)
        yield from _count("users", "accepted", number=unique.num_rows)
        shard_rows = rows.ShardRows(
            tables.concat(parts["events"], plan.empty("events")),
            unique.select(users_schema(plan.catalog).names),
            tables.from_bytes(items),
            plan.settings,
            plan.catalog,
        )
        yield from self._write(shard, shard_rows, cuts)
        yield from _count("users", number=shard_rows.num_users)
        yield from _count("unknown_items", number=shard_rows.num_unknown_items)
        if "users" in plan.files:
            yield from _count("unknown_users", number=shard_rows.num_unknown_users)
        yield shard, tables.to_bytes(shard_rows.profiles)

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
            yield from _count("split", chunk.split, number=len(chunk.examples))
            masks = (chunk.is_interaction, chunk.is_impression)
            for name, mask in zip(EXAMPLES, masks, strict=True):
                chosen = [chunk.examples[row] for row in np.flatnonzero(mask)]
                files[name, chunk.split].write(chosen)
                yield from _count(name, chunk.split, number=len(chosen))
        for file in files.values():
            file.commit()


def _dead_letter_part(
    file: SourceFile, dead: list[DeadLetter]
) -> tuple[str, str, int, bytes]:
    table = pa.table(
        {
            "source": [file.table] * len(dead),
            "file": [file.path] * len(dead),
            "position": [letter.position for letter in dead],
            "reason": [letter.reason for letter in dead],
            "raw": [letter.raw for letter in dead],
        },
        schema=DEAD_LETTERS,
    )
    return file.table, file.path, dead[0].position, tables.to_bytes(table)


def _write_dead_letters(parts: list[tuple[str, str, int, bytes]], plan: Plan) -> None:
    path = plan.outputs.file("dead_letters", "dead_letters.parquet")
    in_order = (tables.from_bytes(part[-1]) for part in sorted(parts))
    output.write_parquet(path, DEAD_LETTERS, in_order)


def _write_profiles(parts: list[tuple[int, bytes]], plan: Plan) -> None:
    path = plan.outputs.file("profiles", "profiles.parquet")
    in_order = (tables.from_bytes(part) for _, part in sorted(parts))
    output.write_parquet(path, profiles_schema(plan.catalog), in_order)


def _write_summary(counts: dict[str, int], cuts: SplitCuts, plan: Plan) -> None:
    files = {table: len(files) for table, files in plan.files.items()}
    summary = summarise(counts, files, cuts)
    path = plan.outputs.file("summary", "summary.json")
    output.write_text(path, summary.model_dump_json(indent=2) + "\n")
