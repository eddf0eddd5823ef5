"""Random logs through the ingestion: shard by shard without Beam, and whole on a runner.

What comes out is read back as plain rows, {(examples, split): {event_id: row}}.
"""

import dataclasses
import gzip
import io
import itertools
import json

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from components.ingestion import tables, tfrecord
from components.ingestion.parsing import SOURCE_FILE, SOURCE_POSITION, parse_events
from components.ingestion.pipeline import ingest
from components.ingestion.plan import Plan
from components.ingestion.profiles import user_profiles
from components.ingestion.raw_batch import RawBatch, column
from components.ingestion.rows import ShardRows
from components.ingestion.settings import Format
from components.ingestion.shard import shard_events
from components.ingestion.sources import SourceFile, column_maps
from components.ingestion.splits import split_cuts
from schemas.events import SPLITS, items_schema, users_schema
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_world as world

EXAMPLES = ("interactions", "impressions")


@dataclasses.dataclass
class Outcome:
    """What came of a log."""

    rows: dict
    dead: list  # (file, number of the record in it), both from 0
    profiles: dict  # user_id -> statistics and histories


def raw_batch(records):
    names = dict.fromkeys(itertools.chain(*records))
    return RawBatch(
        {name: column([record.get(name) for record in records]) for name in names},
        np.arange(1, len(records) + 1),
        lambda row: json.dumps(records[row]),
        [],
    )


def replayed(log, catalog=world.FULL_CATALOG):
    """Returns the Outcome of a log that is given to each shard's own functions."""
    settings = world.settings_of(log.declared)
    files = [
        SourceFile("events", index, f"file-{index}", Format.JSONL, file.span)
        for index, file in enumerate(log.files)
    ]
    plan = Plan(
        settings,
        catalog,
        {"events": files},
        column_maps(settings, catalog),
        log.num_shards,
        world.output_paths(world.NOWHERE),
    )
    parts, dead = [plan.empty("events")], []
    for file, described in zip(log.files, files, strict=True):
        accepted, letters = parse_events(
            raw_batch(file.records),
            plan.columns["events"],
            settings,
            catalog,
            described,
        )
        parts.append(accepted)
        dead += [(described.index, letter.position - 1) for letter in letters]
    whole = tables.concat(map(tables.to_bytes, parts[1:]), parts[0])
    unique = tables.without_duplicates(whole, ("event_id", "timestamp"))
    unique = unique.drop_columns([SOURCE_FILE, SOURCE_POSITION])
    rows, profiles = _by_shard(unique, plan, log)
    return Outcome(rows, dead, profiles)


def _by_shard(events, plan, log):
    cuts = split_cuts(events["timestamp"].to_numpy(), plan.settings.split)
    items = world.items_table(log.declared.items).select(
        items_schema(plan.catalog).names
    )
    users = world.users_table().select(users_schema(plan.catalog).names)
    users_of = dict(tables.partition(users, "user_id", plan.num_shards))
    out = {(name, split): {} for name in EXAMPLES for split in SPLITS}
    parts = dict(tables.partition(events, "user_id", plan.num_shards))
    profiles = {}
    for shard in range(plan.num_shards):
        part = shard_events(
            parts.get(shard, events.slice(0, 0)), plan.settings, plan.closed_at(cuts)
        )
        shard_users = users_of.get(shard, users.slice(0, 0))
        profiles |= profiles_of(user_profiles(part, shard_users, plan.catalog))
        shard_rows = ShardRows(
            part,
            shard_users,
            items.cast(items_schema(plan.catalog)),
            plan.settings,
            plan.catalog,
        )
        for chunk in shard_rows.chunks(cuts, chunk_rows=16):
            masks = (chunk.is_interaction, chunk.is_impression)
            for name, mask in zip(EXAMPLES, masks, strict=True):
                for example in chunk.examples.filter(mask).to_pylist():
                    _add(out[name, chunk.split], oracle.decoded(example))
    return out, profiles


def profiles_of(table):
    """Returns user_id -> the profile without the columns of the users table."""
    rows = table.drop_columns(["age"]).to_pylist()
    return {row.pop("user_id"): row for row in rows}


def _add(rows, row):
    name = row["event_id"][0]
    assert name not in rows, f"{name} came twice"
    rows[name] = row


def run(folder, settings, catalog=world.FULL_CATALOG, out="out"):
    """Ingests on the in-memory runner; returns the summary and the Beam counters."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    summary = ingest(pipeline, settings, catalog, world.output_paths(folder / out))
    found = pipeline.result.metrics().query()["counters"]
    counters = {
        metric.key.metric.name: metric.committed
        for metric in found
        if metric.key.metric.namespace == "ingestion"
    }
    return summary, counters


def written_rows(folder):
    """Returns the rows in the artifacts of a run."""
    out = {}
    for name, split in itertools.product(EXAMPLES, SPLITS):
        out[name, split] = {}
        for file in sorted((folder / name / f"Split-{split}").iterdir()):
            in_file = [oracle.decoded(record) for record in records_of(file)]
            moments = [row["timestamp"] for row in in_file]
            assert moments == sorted(moments)
            for row in in_file:
                _add(out[name, split], row)
    return out


def records_of(file):
    return tfrecord.read_records(io.BytesIO(gzip.decompress(file.read_bytes())))
