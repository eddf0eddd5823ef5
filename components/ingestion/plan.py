"""All that the stages need to know, settled before the pipeline starts."""

import dataclasses

import pyarrow as pa

from components.ingestion.blocks import whole
from components.ingestion.output import OutputPaths
from components.ingestion.parsing import SOURCE_FILE, SOURCE_POSITION
from components.ingestion.records import read_batches
from components.ingestion.settings import DataSettings, Source
from components.ingestion.sources import (
    ColumnMap,
    SourceFile,
    column_maps,
    input_bytes,
    match_sources,
    sources_of,
)
from components.ingestion.spans import closed_at
from components.ingestion.splits import SplitCuts
from schemas.events import events_schema, items_schema, users_schema
from schemas.features import FeatureCatalog

_MIN_SHARDS, _MAX_SHARDS, _SHARD_BYTES = 4, 4096, 8 << 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """Settings, files and folders of one ingestion."""

    settings: DataSettings
    catalog: FeatureCatalog
    files: dict[str, list[SourceFile]]
    columns: dict[str, ColumnMap]
    num_shards: int
    outputs: OutputPaths

    def source(self, table: str) -> Source:
        return sources_of(self.settings)[table]

    def closed_at(self, cuts: SplitCuts) -> int:
        """Returns the moment, in ms, as of which response windows are judged."""
        declared = closed_at(self.settings, self.files["events"])
        return cuts.last + 1 if declared is None else declared

    def span_of_file(self, table: str) -> list[str]:
        """Returns the span of each file of a source, by its index."""
        return [file.span for file in self.files[table]]

    def empty(self, table: str) -> pa.Table:
        """Returns a canonical table without rows, with the columns of origin."""
        schema = {
            "events": events_schema,
            "items": items_schema,
            "users": users_schema,
        }[table](self.catalog)
        schema = schema.append(pa.field(SOURCE_FILE, pa.int32()))
        return schema.append(pa.field(SOURCE_POSITION, pa.int64())).empty_table()


def make_plan(
    settings: DataSettings, catalog: FeatureCatalog, outputs: OutputPaths
) -> Plan:
    """Finds the files and looks at the first of each source.

    Raises:
        IngestionError: if a source has no file, or its first file cannot be read or
            lacks a column.
    """
    maps = column_maps(settings, catalog)
    files = match_sources(settings)
    for table, source in sources_of(settings).items():
        first = whole(files[table][0])
        next(read_batches(first, source, maps[table], 1), None)
    by_size = -(-input_bytes(files["events"]) // _SHARD_BYTES)
    num_shards = settings.shards or min(max(by_size, _MIN_SHARDS), _MAX_SHARDS)
    return Plan(settings, catalog, files, maps, num_shards, outputs)
