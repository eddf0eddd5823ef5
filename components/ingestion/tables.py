"""Moving, partitioning and deduplicating canonical tables."""

import itertools
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.errors import IngestionError
from components.ingestion.parsing import SOURCE_FILE, SOURCE_POSITION


def to_bytes(table: pa.Table) -> bytes:
    """Returns the table as an Arrow IPC stream, what Beam moves between stages."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
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
    ids = table[column].combine_chunks().dictionary_encode()
    hashes = [
        zlib.crc32(value) % num_shards
        for value in ids.dictionary.cast("binary").to_pylist()
    ]
    shards = np.array(hashes, np.int64)[ids.indices.to_numpy()]
    order = np.argsort(shards, kind="stable")
    bounds = np.searchsorted(shards[order], np.arange(num_shards + 1))
    by_shard = table.take(pa.array(order))
    for shard, (begin, end) in enumerate(itertools.pairwise(bounds)):
        if end > begin:
            yield shard, by_shard.slice(begin, end - begin)


def without_duplicates(table: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """Keeps one row for each value of the first key, the least by all the keys.

    Among rows equal in every key, the first in (file, position) stays; the outcome does
    not depend on the order in which rows arrive.

    Args:
        table: with the two columns of origin.
        keys: (id, then what decides between rows of one id), e.g. event_id, timestamp.

    Returns:
        The rows kept, sorted by id.
    """
    sort_keys = [(key, "ascending") for key in (*keys, SOURCE_FILE, SOURCE_POSITION)]
    table = table.take(pc.sort_indices(table, sort_keys=sort_keys))
    ids = table[keys[0]].combine_chunks()
    if len(ids) < 2:
        return table
    is_new = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1))
    return table.filter(pa.concat_arrays([pa.array([True]), is_new]))
