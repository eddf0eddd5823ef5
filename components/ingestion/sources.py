"""Which files a source names, in a stable order, and a fingerprint of their content."""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterable

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from components.ingestion.errors import IngestionError
from components.ingestion.settings import DataSettings, Format, Source
from schemas.events import (
    OPTIONAL_EVENT_COLUMNS,
    REQUIRED_EVENT_COLUMNS,
    check_names,
)
from schemas.features import ITEM_ID, USER_ID, Feature, FeatureCatalog

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
_HASHED_BYTES = 256 << 20  # above this, a fingerprint trusts size and time of change


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    table: str  # events, items or users
    index: int  # in the sorted list of the source's files
    path: str
    format: Format


@dataclasses.dataclass(frozen=True)
class ColumnMap:
    """Canonical names of one table beside the service's own."""

    own: dict[str, str]  # canonical -> own, in a stable order
    required: frozenset[str]  # own names that each file with a header must have


def match_files(table: str, source: Source) -> list[SourceFile]:
    """Returns the files of `source`, sorted by path.

    Raises:
        IngestionError: if none matches, all are empty, or a format is not known.
    """
    return [
        SourceFile(
            table, index, metadata.path, _format_of(table, source, metadata.path)
        )
        for index, metadata in enumerate(_match(table, source))
    ]


def input_fingerprint(settings: DataSettings) -> str:
    """Returns a digest that changes when any matched file does.

    Up to 256 MiB in all, of the files' content; beyond, of path, size and time of
    change. The pipeline hands it to the component, so that the cache notices new data
    behind an unchanged path.

    Raises:
        IngestionError: as `match_files`.
    """
    digest = hashlib.sha256()
    for table, source in sources_of(settings).items():
        files = _match(table, source)
        hash_content = sum(file.size_in_bytes for file in files) <= _HASHED_BYTES
        for file in files:
            digest.update(f"{table}\0{file.path}\0{file.size_in_bytes}\0".encode())
            if hash_content:
                with FileSystems.open(
                    file.path, compression_type=CompressionTypes.UNCOMPRESSED
                ) as handle:
                    while chunk := handle.read(1 << 20):
                        digest.update(chunk)
            else:
                digest.update(repr(file.last_updated_in_seconds).encode())
    return digest.hexdigest()


def input_bytes(source: Source) -> int:
    """Returns the size of the source's files, as stored."""
    return sum(file.size_in_bytes for file in _match("events", source))


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
        "events": (REQUIRED_EVENT_COLUMNS, OPTIONAL_EVENT_COLUMNS, catalog.context),
        "items": ((ITEM_ID,), (), catalog.item),
        "users": ((USER_ID,), (), catalog.user),
    }
    return {
        table: _column_map(table, source, *columns[table])
        for table, source in sources_of(settings).items()
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
    features: tuple[Feature, ...],
) -> ColumnMap:
    known = [*required, *optional, *(feature.name for feature in features)]
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
    return ColumnMap(own, frozenset(needed))


def _match(table: str, source: Source) -> list[FileMetadata]:
    try:
        files = FileSystems.match([source.path])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise IngestionError(
            f"data.{table}.path: cannot list `{source.path}`: {error}"
        ) from error
    files = sorted(files, key=lambda file: file.path)
    if not files:
        raise IngestionError(
            f"data.{table}.path: no file matches `{source.path}`. Check the path, or "
            "fetch a public data set with `tandem data fetch NAME`."
        )
    if not any(file.size_in_bytes for file in files):
        raise IngestionError(
            f"data.{table}.path: `{source.path}` is empty (0 bytes in {len(files)} "
            "file(s)). Export the table again, or point the path at another one."
        )
    return files


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
