"""The Beam pipeline: read, check, deduplicate, split, join, encode, account.

Elements between stages are Arrow tables in IPC form, not single events. Events move
twice: to the shard of their event_id, where duplicates meet, and to the shard of their
user, where responses are joined and histories are made. No stage holds the log in one
process; only its timestamps meet in one place, 8 bytes an event, for the exact rank of
the split.
"""

import re

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsSingleton

from components.beam_data_plane import send_whole_buffers
from components.ingestion import output
from components.ingestion.blocks import split_file
from components.ingestion.errors import IngestionError
from components.ingestion.facts import PartialFacts, gather_facts
from components.ingestion.output import OutputPaths
from components.ingestion.plan import Plan, make_plan
from components.ingestion.settings import DataSettings
from components.ingestion.splits import SplitCuts
from components.ingestion.stages import (
    COUNTS,
    FACTS,
    IDS,
    TIMES,
    CutSplits,
    DropDuplicates,
    EncodeRows,
    Parse,
    WriteCatalog,
)
from components.ingestion.summary import Summary, summarise
from schemas.features import FeatureCatalog


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
    send_whole_buffers()
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


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Adds the stages to `pipeline`."""
    read = {table: _read(pipeline, plan, table) for table in plan.files}
    deduplicated = (
        read["events"].events
        | "GroupByEvent" >> beam.GroupByKey()
        | "DropDuplicates"
        >> beam.ParDo(DropDuplicates(plan)).with_outputs(
            COUNTS, TIMES, IDS, main="events"
        )
    )
    cuts = deduplicated[TIMES] | "CutSplits" >> beam.CombineGlobally(CutSplits(plan))
    item_parts = read["items"].items if "items" in read else deduplicated[IDS]
    catalog = (
        item_parts
        | "GatherItems" >> beam.combiners.ToList()
        | "WriteCatalog"
        >> beam.ParDo(WriteCatalog(plan)).with_outputs(COUNTS, main="items")
    )
    # Every shard is there, with events or without, so that each writes its files.
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
            EncodeRows(plan), AsSingleton(cuts), AsSingleton(catalog["items"])
        ).with_outputs(COUNTS, FACTS)
    )
    facts = encoded[FACTS] | "GatherFacts" >> beam.combiners.ToList()
    stages = [*read.values(), deduplicated, catalog, encoded]
    _ = (
        [stage[COUNTS] for stage in stages]
        | "FlattenCounts" >> beam.Flatten()
        | "SumCounts" >> beam.CombinePerKey(sum)
        | "GatherCounts" >> beam.combiners.ToDict()
        | "WriteSummary"
        >> beam.Map(_write_summary, AsSingleton(cuts), AsSingleton(facts), plan)
    )


def _read(pipeline: beam.Pipeline, plan: Plan, table: str):
    return (
        pipeline
        | f"Files[{table}]" >> beam.Create(plan.files[table])
        | f"SpreadFiles[{table}]" >> beam.Reshuffle()
        | f"Split[{table}]" >> beam.FlatMap(split_file)
        | f"SpreadBlocks[{table}]" >> beam.Reshuffle()
        | f"Parse[{table}]"
        >> beam.ParDo(Parse(plan, table)).with_outputs(COUNTS, main=table)
    )


def _write_summary(
    counts: dict[str, int],
    cuts: SplitCuts,
    facts: list[tuple[str, PartialFacts]],
    plan: Plan,
) -> None:
    files = {table: len(files) for table, files in plan.files.items()}
    summary = summarise(counts, files, cuts, gather_facts(facts))
    path = plan.outputs.file("summary", "summary.json")
    output.write_text(path, summary.model_dump_json(indent=2) + "\n")
