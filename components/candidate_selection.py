"""Leaves out of the catalogue what must not be recommended, and accounts for it.

The rules: an availability window in the items table, judged at one moment, and a list of
denied ids. What is left is a catalogue again, in the same order; models still know the
other items, as parts of histories.
"""

import datetime
import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from pydantic import BaseModel, ConfigDict

from components.candidate_selection_settings import (
    DEFAULT_FROM,
    DEFAULT_UNTIL,
    CandidateSettings,
)
from components.catalog_files import ITEMS_EXAMPLES, ITEMS_TABLE
from components.ingestion import output, tfrecord
from components.ingestion.errors import IngestionError
from components.item_times import UNKNOWN, times_of
from schemas.features import ITEM_ID

SELECTION_FILE = "selection.json"
_PLACE = "candidates.deny_list"
_MAX_NAMED = 10
_BATCH = 4096


class Selection(BaseModel):
    """`selection.json`: what became of the catalogue's items.

    An item that several rules match counts for each of them, and once in `removed`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: datetime.datetime  # the moment that availability was judged at
    items: int  # of the catalogue
    selected: int  # items = selected + removed
    removed: int
    not_yet_available: int
    no_longer_available: int
    denied: int
    empty_windows: int  # items that end before they begin, so are never available
    first_empty_window: str | None = None
    unknown_denied: int = 0  # ids of the deny list that the catalogue lacks
    unknown_denied_ids: tuple[str, ...] = ()  # the first of them


def select_candidates(
    table: pa.Table, settings: CandidateSettings, newest_event: int
) -> tuple[np.ndarray, Selection]:
    """Applies the rules.

    An item is available at t if available_from <= t < available_until.

    Args:
        table: the catalogue's items.
        settings: the rules.
        newest_event: ms; the moment of judgement where the settings give none.

    Returns:
        ([N] bool, which items stay; the account).

    Raises:
        IngestionError: if a rule cannot be applied, or leaves no item.
    """
    ids = table.column(ITEM_ID).to_pylist()
    moment = newest_event if settings.at_ms is None else settings.at_ms
    begin = times_of(
        table,
        "candidates.available_from_column",
        settings.available_from_column,
        DEFAULT_FROM,
    )
    end = times_of(
        table,
        "candidates.available_until_column",
        settings.available_until_column,
        DEFAULT_UNTIL,
    )
    early = (begin != UNKNOWN) & (moment < begin)
    late = (end != UNKNOWN) & (moment >= end)
    empty = (begin != UNKNOWN) & (end != UNKNOWN) & (end <= begin)
    listed = read_deny_list(settings.deny_list) if settings.deny_list else set()
    denied = np.array([item in listed for item in ids], bool)
    stays = ~(early | late | denied)
    unknown = sorted(listed.difference(ids))
    selection = Selection(
        at=datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC),
        items=len(ids),
        selected=int(stays.sum()),
        removed=int((~stays).sum()),
        not_yet_available=int(early.sum()),
        no_longer_available=int(late.sum()),
        denied=int(denied.sum()),
        empty_windows=int(empty.sum()),
        first_empty_window=ids[int(empty.argmax())] if empty.any() else None,
        unknown_denied=len(unknown),
        unknown_denied_ids=tuple(unknown[:_MAX_NAMED]),
    )
    if ids and not stays.any():
        raise IngestionError(
            f"candidates: no item is left to recommend: of {len(ids)}, "
            f"{selection.not_yet_available} are not yet available and "
            f"{selection.no_longer_available} no longer at {selection.at.isoformat()}, "
            f"{selection.denied} are denied. Look at `candidates.at`, at the columns "
            f"`{settings.available_from_column}` and `{settings.available_until_column}` "
            "of the items table, and at the deny list."
        )
    return stays, selection


def read_deny_list(path: str) -> set[str]:
    """Reads a file of item ids, one a line; blank lines do not count.

    Raises:
        IngestionError: if the file is not there, or not text.
    """
    try:
        with FileSystems.open(
            path, compression_type=CompressionTypes.UNCOMPRESSED
        ) as handle:
            data = handle.read()
        # Beam's own decompression takes a damaged file for an empty one.
        text = (gzip.decompress(data) if path.endswith(".gz") else data).decode(
            "utf-8-sig"
        )
    except UnicodeDecodeError as error:
        raise IngestionError(
            f"{_PLACE}: `{path}` is not UTF-8 text: {error}. Write one item id a line."
        ) from error
    except (OSError, EOFError, ValueError, BeamIOError, zlib.error) as error:
        raise IngestionError(
            f"{_PLACE}: cannot read `{path}`: {error}. Give the path or URL of a file "
            "with one item id a line, or null for none."
        ) from error
    # Not `splitlines`, which ends a line at characters that an id may hold.
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return {line for line in lines if line.strip()}


def candidates_fingerprint(settings: CandidateSettings) -> str:
    """Returns a digest that changes when the deny list does, "" without one.

    The pipeline hands it to the component, so that the cache notices a changed list
    behind an unchanged path.

    Raises:
        IngestionError: as `read_deny_list`.
    """
    if settings.deny_list is None:
        return ""
    listed = "\n".join(sorted(read_deny_list(settings.deny_list)))
    return hashlib.sha256(listed.encode()).hexdigest()


def write_candidates(
    catalog_uri: str,
    candidates_uri: str,
    settings: CandidateSettings,
    newest_event: int,
) -> Selection:
    """Writes the catalogue of what may be recommended.

    Args:
        catalog_uri: folder of a `Catalog`.
        candidates_uri: folder that becomes another.
        settings: the rules.
        newest_event: ms.

    Returns:
        The account.

    Raises:
        IngestionError: as `select_candidates`.
    """
    with FileSystems.open(FileSystems.join(catalog_uri, ITEMS_TABLE)) as handle:
        table = pq.read_table(handle)
    stays, selection = select_candidates(table, settings, newest_event)
    output.write_parquet(
        FileSystems.join(candidates_uri, ITEMS_TABLE), table.filter(pa.array(stays))
    )
    file = output.RecordFile(FileSystems.join(candidates_uri, ITEMS_EXAMPLES))
    for batch in _selected_records(catalog_uri, stays):
        file.write(batch)
    file.commit()
    return selection


def _selected_records(catalog_uri: str, stays: np.ndarray) -> Iterator[pa.Array]:
    """Yields the serialized tf.Examples of the items that stay, some at a time."""
    path = FileSystems.join(catalog_uri, ITEMS_EXAMPLES)
    with FileSystems.open(path) as handle:
        records = tfrecord.read_records(handle)
        selected = itertools.compress(records, stays)
        while batch := list(itertools.islice(selected, _BATCH)):
            yield pa.array(batch, pa.binary())
