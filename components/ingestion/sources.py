"""Which files a source names, in a stable order, and a fingerprint of their content."""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterable

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion import spans
from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings, Format, Source, SpanSettings
from schemas.events import (
    OPTIONAL_EVENT_COLUMNS,
    REQUIRED_EVENT_COLUMNS,
    check_names,
)
from schemas.features import (
    ITEM_ID,
    POSITION,
    PROPENSITY,
    TIMESTAMP,
    USER_ID,
    VALUE,
    FeatureCatalog,
    RawColumn,
    Side,
)

_ENDINGS = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".tfrecord": Format.TFRECORD,
    ".tfrecords": Format.TFRECORD,
}
_NUMBERS = (TIMESTAMP, VALUE, POSITION, PROPENSITY)
_ALL_SPANS = SpanSettings()
_HASHED_BYTES = 256 << 20  # above this, a fingerprint trusts size and time of change


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    table: str  # events, items or users
    index: int  # in the sorted list of the source's files
    path: str
    format: Format
    span: str = ""  # 2026-11-21 or 17; "" in a source without spans
    replayed: bool = False  # whether it holds mended dead letters
    num_bytes: int = 0  # as stored


@dataclasses.dataclass(frozen=True)
class ColumnMap:
    """Canonical names of one table beside the service's own."""

    own: dict[str, str]  # canonical -> own, in a stable order
    required: frozenset[str]  # own names that each file with a header must have
    # Own names of what is read as numbers only: 1 and 1.0 mean the same there.
    numbers: frozenset[str] = frozenset()


def match_sources(settings: DataSettings) -> dict[str, list[SourceFile]]:
    """Returns the files of each declared source, as `match_files`.

    Raises:
        IngestionError: as `match_files`.
    """
    declared = sources_of(settings)
    events = match_files("events", declared["events"], settings.spans)
    newest = max((file.span for file in events), key=spans.span_order)
    files = {"events": events}
    for table, source in declared.items():
        if table != "events":
            files[table] = match_files(table, source, settings.spans, newest)
    return files


def event_spans(settings: DataSettings) -> list[str]:
    """Returns the spans that are read of the log, the oldest first; "" is none.

    Raises:
        IngestionError: as `match_files`.
    """
    files = match_files("events", settings.events, settings.spans)
    return sorted({file.span for file in files}, key=spans.span_order)


def match_files(
    table: str,
    source: Source,
    span_settings: SpanSettings = _ALL_SPANS,
    newest_events_span: str = "",
) -> list[SourceFile]:
    """Returns the files of `source`, sorted by span and path, replayed ones last.

    Of a log in spans, those that `span_settings` choose; of items or users in spans,
    the snapshot that the log's newest span saw. Of each span, the highest version.

    Args:
        table: events, items or users.
        source: its declaration.
        span_settings: which spans of the event log are read.
        newest_events_span: for items and users; "" for a log without spans.

    Raises:
        IngestionError: if no file matches, all are empty, a format is not known, or
            the path's placeholders or spans are not as they should be.
    """
    chosen = _chosen(table, source, span_settings, newest_events_span)
    found = [
        (file, span, _format_of(table, source, file.path), False)
        for span, file in chosen
    ]
    # Whatever the source's format, what was mended is JSON Lines.
    found += [(file, "", Format.JSONL, True) for file in _replayed(table, source)]
    return [
        SourceFile(table, index, file.path, kind, span, is_replayed, file.size_in_bytes)
        for index, (file, span, kind, is_replayed) in enumerate(found)
    ]


def input_fingerprint(settings: DataSettings) -> str:
    """Returns a digest that changes when any file that is read does.

    Up to 256 MiB of a source, by its files' content; beyond, by path, size and time of
    change. The pipeline hands it to the component, so that the cache notices new data
    behind an unchanged path.

    Raises:
        IngestionError: as `match_files`.
    """
    digest = hashlib.sha256()
    for table, files in match_sources(settings).items():
        hash_content = input_bytes(files) <= _HASHED_BYTES
        for file in files:
            digest.update(f"{table}\0{file.path}\0{file.num_bytes}\0".encode())
            if hash_content:
                with FileSystems.open(
                    file.path, compression_type=CompressionTypes.UNCOMPRESSED
                ) as handle:
                    while chunk := handle.read(1 << 20):
                        digest.update(chunk)
            else:
                digest.update(repr(FileSystems.last_updated(file.path)).encode())
    return digest.hexdigest()


def input_bytes(files: Iterable[SourceFile]) -> int:
    """Returns the size of the files, as stored."""
    return sum(file.num_bytes for file in files)


def sources_of(settings: DataSettings) -> dict[str, Source]:
    """Returns the declared sources by table."""
    tables = {
        "events": settings.events,
        "items": settings.items,
        "users": settings.users,
    }
    return {table: source for table, source in tables.items() if source is not None}


def column_maps(
    settings: DataSettings, catalog: FeatureCatalog
) -> dict[str, ColumnMap]:
    """Returns the column map of each declared source.

    Raises:
        IngestionError: if a key of `columns` is no column of its table, or a feature
            takes the name of a canonical column.
    """
    try:
        check_names(catalog)
    except ValueError as error:
        raise IngestionError(str(error)) from error
    columns = {
        "events": (REQUIRED_EVENT_COLUMNS, OPTIONAL_EVENT_COLUMNS, Side.CONTEXT),
        "items": ((ITEM_ID,), (), Side.ITEM),
        "users": ((USER_ID,), (), Side.USER),
    }
    return {
        table: _column_map(
            table, source, required, optional, catalog.declared_columns(side)
        )
        for table, source in sources_of(settings).items()
        for required, optional, side in [columns[table]]
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean ...?" for a name close to a known one, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _column_map(
    table: str,
    source: Source,
    required: tuple[str, ...],
    optional: tuple[str, ...],
    features: list[RawColumn],
) -> ColumnMap:
    known = [*required, *optional, *(column.name for column in features)]
    for name in source.columns:
        if name not in known:
            raise IngestionError(
                f"data.{table}.columns: `{name}` is neither a column of the {table} "
                f"table nor a declared feature.{nearest(name, known)} Known: "
                f"{', '.join(known)}."
            )
    own = {name: source.columns.get(name, name) for name in known}
    # An optional column may be absent, unless the config says where it is.
    needed = {
        own[name] for name in known if name not in optional or name in source.columns
    }
    numeric = [column.name for column in features if column.is_number]
    others = [name for name in known if name not in (*_NUMBERS, *numeric)]
    numbers = set(own.values()).difference(own[name] for name in others)
    return ColumnMap(own, frozenset(needed), frozenset(numbers))


def _chosen(
    table: str, source: Source, span_settings: SpanSettings, newest_events_span: str
) -> list[tuple[str, FileMetadata]]:
    """Returns (span, file) of the files behind `path`, sorted."""
    place = f"data.{table}.path"
    pattern = spans.parse_pattern(source.path, place)
    listed = _match(place, pattern.glob)
    parsed = [(pattern.parse(file.path), file) for file in listed]
    known = [(*found, file) for found, file in parsed if found is not None]
    if not known:
        similar = f" `{listed[0].path}` only looks similar." if listed else ""
        raise IngestionError(
            f"{place}: no file matches `{source.path}`.{similar} Check the path, or "
            "fetch a public data set with `tandem data fetch NAME`."
        )
    newest = spans.newest_versions((span, version) for span, version, _ in known)
    if table == "events":
        read = set(spans.chosen_spans(newest, span_settings, pattern.kind, place))
    else:
        read = {spans.snapshot_span(newest, newest_events_span, place)}
    files = [
        (span, file)
        for span, version, file in known
        if span in read and version == newest[span]
    ]
    if not any(file.size_in_bytes for _, file in files):
        raise IngestionError(
            f"{place}: `{source.path}` is empty (0 bytes in {len(files)} file(s)). "
            "Export the table again, or point the path at another one."
        )
    return sorted(files, key=lambda found: (spans.span_order(found[0]), found[1].path))


def _replayed(table: str, source: Source) -> list[FileMetadata]:
    if source.replayed is None:
        return []
    files = _match(f"data.{table}.replayed", source.replayed)
    return sorted(files, key=lambda file: file.path)


def _match(place: str, glob: str) -> list[FileMetadata]:
    try:
        return FileSystems.match([glob])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise IngestionError(f"{place}: cannot list `{glob}`: {error}") from error


def _format_of(table: str, source: Source, path: str) -> Format:
    if source.format is not Format.AUTO:
        return source.format
    name = path.rsplit("/", 1)[-1].lower().removesuffix(".gz")
    for ending, file_format in _ENDINGS.items():
        if name.endswith(ending):
            return file_format
    raise IngestionError(
        f"data.{table}.format: the ending of `{path}` says nothing of its format. Set "
        "`format` to one of jsonl, csv, parquet, tfrecord."
    )
