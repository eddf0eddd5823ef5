"""Blocks: the parts of a file that workers read side by side.

Parquet splits at its row groups, plain JSON Lines at line ends. A line end of CSV may lie
within quotes, a TFRecord or gzip file has to be read from its start: they stay whole.
"""

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion import streams
from components.ingestion.errors import IngestionError
from components.ingestion.settings import Format
from components.ingestion.sources import SourceFile

BLOCK_BYTES = 32 << 20
# What a file that is no Parquet file, or a damaged one, makes Arrow raise.
PARQUET_ERRORS = (pa.ArrowException, OSError, UnicodeDecodeError)
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of one file, or the whole of it."""

    file: SourceFile
    index: int  # among the file's blocks
    begin: int  # the first byte, or the first row group of a Parquet file
    end: int | None  # behind the last one; None is the end of the file
    first_position: int  # of the block's first line or record, from 1


def split_file(file: SourceFile, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yields the blocks of `file`, in order; together they hold each record once.

    Args:
        file: what to split.
        block_bytes: about how large a block is, as stored. A single line or row group
            may be larger.

    Raises:
        IngestionError: if the file cannot be opened, or is no Parquet file.
    """
    if not streams.is_plain(file.path):
        yield whole(file)
    elif file.format is Format.PARQUET:
        with streams.open_plain(file.path) as handle:
            yield from _row_group_blocks(file, handle, block_bytes)
    elif file.format is Format.JSONL and not 0 < file.num_bytes <= block_bytes:
        with streams.open_plain(file.path) as handle:
            yield from _line_blocks(file, handle, block_bytes)
    else:
        yield whole(file)


def whole(file: SourceFile) -> Block:
    """Returns the block that is the whole file."""
    return Block(file, index=0, begin=0, end=None, first_position=1)


def parquet_error(path: str, error: Exception) -> IngestionError:
    """Returns the error over a file that is no Parquet file, or a damaged one."""
    return IngestionError(
        f"`{path}` cannot be read as Parquet: {error}. Export it again, or set its "
        "`format`."
    )


def group_rows(metadata: pq.FileMetaData) -> list[int]:
    """Returns the rows of each row group.

    Raises:
        OSError: if they are not those of the file.
    """
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(rows) != metadata.num_rows:
        raise OSError(f"{sum(rows)} rows in its row groups, {metadata.num_rows} in all")
    return rows


def _row_group_blocks(
    file: SourceFile, handle: BinaryIO, block_bytes: int
) -> Iterator[Block]:
    try:
        metadata = pq.ParquetFile(handle).metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        rows = group_rows(metadata)
        sizes = [
            sum(group.column(i).total_compressed_size for i in range(group.num_columns))
            for group in groups
        ]
    except PARQUET_ERRORS as error:
        raise parquet_error(file.path, error) from error
    index, begin, size, position = 0, 0, 0, 1
    for group, group_size in enumerate(sizes):
        if size and size + group_size > block_bytes:
            yield Block(file, index, begin, group, position)
            position += sum(rows[begin:group])
            index, begin, size = index + 1, group, 0
        size += group_size
    yield Block(file, index, begin, len(sizes), position)


def _line_blocks(
    file: SourceFile, handle: BinaryIO, block_bytes: int
) -> Iterator[Block]:
    index, begin, line, line_ends = 0, 0, 1, 0  # of the current block
    offset = 0  # of the chunk
    try:
        while chunk := handle.read(_READ_BYTES):
            done = 0
            # A block ends at the first line end that makes it as large as asked for.
            while (
                cut := chunk.find(b"\n", max(begin + block_bytes - 1 - offset, done))
                + 1
            ):
                yield Block(file, index, begin, offset + cut, line)
                line += line_ends + chunk.count(b"\n", done, cut)
                index, begin, line_ends, done = index + 1, offset + cut, 0, cut
            line_ends += chunk.count(b"\n", done)
            offset += len(chunk)
    except OSError as error:
        raise IngestionError(f"cannot read `{file.path}`: {error}") from error
    if offset > begin or index == 0:
        yield Block(file, index, begin, offset, line)
