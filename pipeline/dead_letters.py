"""Dead letters of a root: out for a person to mend, and back for the next run."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.ingestion.dead_letters import (
    RAW,
    LetterCounts,
    as_mendable,
    count_letters,
    read_letters,
    to_line,
)
from components.ingestion.errors import IngestionError
from components.ingestion.line_file import LineFile
from components.ingestion.replay import (
    ReplayCounts,
    read_mended,
    replay,
    replayed_letters,
)
from components.ingestion.sources import column_maps, sources_of
from pipeline.config import ConfigError, TandemConfig
from pipeline.last_ingestion import LastIngestion, last_ingestion
from pipeline.layout import Layout


def export_dead_letters(
    layout: Layout, table: str, output: Path | None, with_replayed: bool
) -> tuple[str, LetterCounts]:
    """Writes the dead letters of a root's latest ingestion for a person to mend.

    Args:
        layout: of the root.
        table: events, items or users.
        output: the file to write; None only counts.
        with_replayed: also those of which a mended copy was replayed.

    Returns:
        config_name: of the ingestion.
        counts: what was written, or would be.

    Raises:
        IngestionError: if there is no ingestion, or it read no such table.
        FileExistsError: if `output` exists with other content.
    """
    found = last_ingestion(layout)
    folder = layout.replayed(found.config_name, table)
    skipped = set() if with_replayed else replayed_letters(folder)
    counts = LetterCounts()
    records = _stored(found, table, skipped, counts)
    if output is None:
        for record in records:
            counts.unsplit += RAW in record
        return found.config_name, counts
    with LineFile(output.parent) as file:
        for record in records:
            counts.unsplit += RAW in record
            file.write(to_line(record))
        if counts.exported:
            file.publish(output.name)
    return found.config_name, counts


def replay_into(
    layout: Layout, config: TandemConfig, table: str, mended: Path | None
) -> ReplayCounts:
    """Keeps mended dead letters for the next run of a config.

    Args:
        layout: of the root.
        config: the present one, under which records must pass.
        table: events, items or users.
        mended: what a person mended; None takes the stored ones as they are.

    Raises:
        ConfigError: if the config declares no such table, or reads replayed files from
            elsewhere.
        IngestionError: if there is no ingestion to take them from, or a replayed file
            was edited by hand.
    """
    source = sources_of(config.data).get(table)
    if source is None:
        raise ConfigError(f"data.{table}: the config declares no such table.")
    if source.replayed is not None:
        raise ConfigError(
            f"data.{table}.replayed: is set to {source.replayed}, so the run would not "
            f"read what is replayed into {layout.root}. Leave the key out."
        )
    folder = layout.replayed(config.name, table)
    left_folder = layout.left(config.name)
    stored = LetterCounts()
    if mended is None:
        found = last_ingestion(layout, config.name)
        records = _stored(found, table, replayed_letters(folder), stored)
        left_name = left_folder / f"{table}.jsonl"
    else:
        records = read_mended(mended)
        if os.access(mended.parent, os.W_OK):
            left_folder = mended.parent
        # What an earlier replay left keeps the name of what it was left of.
        stem = re.sub(r"\.left-[0-9a-f]+$", "", mended.stem)
        left_name = left_folder / f"{stem}.left{mended.suffix or '.jsonl'}"
    try:
        counts = replay(records, table, config.data, config.features, folder, left_name)
    except FileExistsError as error:
        raise IngestionError(
            f"{error}: it was edited by hand. Move it away, and call this again."
        ) from error
    counts.known += stored.replayed
    return counts


def _stored(
    found: LastIngestion, table: str, skipped: set[str], counts: LetterCounts
) -> Iterator[dict[str, Any]]:
    """Yields the stored dead letters as a person mends them."""
    source = sources_of(found.settings).get(table)
    if source is None:
        raise IngestionError(
            f"the latest ingestion, of `{found.config_name}`, read no {table} table."
        )
    letters = count_letters(read_letters(found.dead_letters, table), skipped, counts)
    columns = column_maps(found.settings, found.catalog)[table]
    return as_mendable(letters, columns, source.delimiter)
