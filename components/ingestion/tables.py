"""Moving, partitioning and deduplicating canonical tables."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.errors import IngestionError
from components.ingestion.hashing import hashed
from components.ingestion.parsing import SOURCE_FILE, SOURCE_POSITION


def to_bytes(table: pa.Table) -> bytes:
    """Returns the table as an Arrow IPC stream, what Beam moves between stages."""
    sink = pa.BufferOutputStream()
    # What waits between stages is most of a runner's memory; this takes a third of it.
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """Reads what `to_bytes` wrote."""
    return pa.ipc.open_stream(data).read_all()


def concat(parts: Iterable[bytes], empty: pa.Table) -> pa.Table:
    """Joins tables in IPC form; `empty` gives the columns where there is none.

    Raises:
        IngestionError: if an undeclared column has types that do not go together.
    """
    tables = [empty, *(from_bytes(part) for part in parts)]
    try:
        joined = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise IngestionError(
            f"a column has one type in some files and another in others: {error}. "
            "Write it with one type, or leave it out."
        ) from error
    return joined.combine_chunks()


def partition(
    table: pa.Table, column: str, num_shards: int
) -> Iterator[tuple[int, pa.Table]]:
    """Yields (shard, its rows) by a hash of `column` that never changes."""
    hashes = hashed(table[column].combine_chunks())
    shards = (hashes % np.uint64(num_shards)).astype(np.int64)
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], np.arange(num_shards + 1))
    by_shard = table.take(pa.array(order))
    for shard, (begin, end) in enumerate(itertools.pairwise(bounds)):
        if end > begin:
            yield shard, by_shard.slice(begin, end - begin)


def without_duplicates(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Keeps one row for each value of the first key, the least by all the keys.

    Among rows equal in every key, the first in (file, position) stays; which one stays
    does not depend on the order in which rows arrive.

    Args:
        table: with the two columns of origin.
        keys: (id, then what decides between rows of one id), e.g. event_id, timestamp.

    Returns:
        The rows kept, in the order they came.
    """
    codes = codes_of(table[keys[0]])
    counts = np.bincount(codes)
    repeated = np.flatnonzero(counts[codes] > 1)
    if len(repeated) == 0:
        return table
    # Few ids repeat: only theirs are sorted.
    several = table.take(pa.array(repeated))
    sort_keys = [(key, "ascending") for key in (*keys, SOURCE_FILE, SOURCE_POSITION)]
    order = pc.sort_indices(several, sort_keys=sort_keys).to_numpy()
    ordered = codes[repeated][order]
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    kept = np.ones(table.num_rows, bool)
    kept[repeated[order[~is_first]]] = False
    return table.filter(pa.array(kept))


def codes_of(column: pa.ChunkedArray) -> np.ndarray:
    """Returns a number for each value, equal where values are, from 0 on; no nulls."""
    encoded = column.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64)
