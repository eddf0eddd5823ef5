"""Reads the items table alone, as an ingestion does, without the log and without Beam.

Of a table in spans, the newest snapshot: there is no log here that could be older.
"""

import collections

import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput

from components.catalog_files import ITEMS_EXAMPLES, ITEMS_TABLE
from components.ingestion import output, rows
from components.ingestion.blocks import split_file
from components.ingestion.errors import IngestionError
from components.ingestion.output import OutputPaths
from components.ingestion.plan import Plan
from components.ingestion.settings import DataSettings
from components.ingestion.sources import column_maps, match_files
from components.ingestion.stages import COUNTS, Parse, WriteCatalog
from components.ingestion.summary import SourceCounts, source_counts
from schemas.features import FeatureCatalog

_ITEMS = "items"


def ingest_items(
    settings: DataSettings, catalog: FeatureCatalog, catalog_uri: str, letters_uri: str
) -> SourceCounts:
    """Writes the `Catalog` that an ingestion of the same table would.

    Args:
        settings: where the table lies, and how to read it.
        catalog: the declared features.
        catalog_uri: folder that becomes the `Catalog`.
        letters_uri: folder for the records that were refused.

    Returns:
        The account of the table.

    Raises:
        IngestionError: if no items table is declared, there is no such file, it lacks a
            column, or holds no item.
    """
    if settings.items is None:
        raise IngestionError("data.items: the config declares no items table.")
    files = match_files(_ITEMS, settings.items, settings.spans)
    plan = Plan(
        settings,
        catalog,
        {_ITEMS: files},
        {_ITEMS: column_maps(settings, catalog)[_ITEMS]},
        num_shards=1,
        outputs=OutputPaths(
            catalog=catalog_uri,
            dead_letters=letters_uri,
            # Nothing is written there.
            interactions="",
            impressions="",
            profiles="",
            summary="",
        ),
    )
    counts: collections.Counter[str] = collections.Counter()

    def without_counts(outputs):
        """Yields what is no counter, and adds up what is one."""
        for out in outputs:
            if not isinstance(out, TaggedOutput):
                yield out
            elif out.tag == COUNTS:
                key, number = out.value
                counts[key] += number

    parse = Parse(plan, _ITEMS)
    parts = [
        part
        for file in files
        for block in split_file(file)
        for part in without_counts(parse.process(block))
    ]
    for _ in without_counts(WriteCatalog(plan).process(parts)):
        pass
    account = source_counts(counts, _ITEMS, len(files))
    if account.accepted == 0:
        reason = f", the first {account.reasons[0].rule!r}" if account.reasons else ""
        raise IngestionError(
            f"data.items.path: no item in {len(files)} file(s) of `{settings.items.path}`: "
            f"{account.read} records, {account.dead_letters} refused{reason}. Export the "
            "table again."
        )
    return account


def write_catalog(table: pa.Table, catalog: FeatureCatalog, catalog_uri: str) -> None:
    """Writes the `Catalog` of a table that is one's already.

    Args:
        table: item_id, each declared feature of items, and what else there is.
        catalog: the declared features.
        catalog_uri: folder that becomes the `Catalog`.
    """
    output.write_parquet(FileSystems.join(catalog_uri, ITEMS_TABLE), table)
    output.write_records(
        FileSystems.join(catalog_uri, ITEMS_EXAMPLES),
        rows.item_examples(table, catalog),
    )
