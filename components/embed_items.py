"""Embeds a catalogue on Beam's workers, a range of its rows at a time.

What moves between stages are row numbers: each worker reads its range from the
catalogue, and holds one batch of examples and of vectors. Batches begin at the same rows
whatever the runner and the number of workers, so the vectors are the same to the bit.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from components.catalog_files import ITEMS_EXAMPLES
from components.ingestion.output import AtomicFile

BATCH = 4096
_ROWS_PER_SHARD = 4 * BATCH
# Each shard reads past the rows before it, so their number is bounded: the reading grows
# with the catalogue, not with its square.
_MAX_SHARDS = 32


@dataclasses.dataclass(frozen=True)
class RowRange:
    """Rows `begin` to `end`, without `end`, of the catalogue: shard `shard`."""

    shard: int
    num_shards: int
    begin: int
    end: int

    def path(self, index_uri: str) -> str:
        """Returns the file of the range's vectors."""
        name = f"embeddings-{self.shard:05d}-of-{self.num_shards:05d}.npy"
        return FileSystems.join(index_uri, name)


def row_ranges(num_rows: int) -> list[RowRange]:
    """Returns the shards of a catalogue, in order; all begin at a multiple of BATCH."""
    per_shard = max(_ROWS_PER_SHARD, math.ceil(num_rows / _MAX_SHARDS))
    per_shard = math.ceil(per_shard / BATCH) * BATCH
    begins = range(0, num_rows, per_shard)
    return [
        RowRange(shard, len(begins), begin, min(begin + per_shard, num_rows))
        for shard, begin in enumerate(begins)
    ]


def embed_items(
    pipeline: beam.Pipeline,
    catalog_uri: str,
    retrieval_model_dir: str,
    index_uri: str,
    num_rows: int,
) -> list[str]:
    """Runs the item tower over every item on the runner of `pipeline`; waits for the end.

    Args:
        pipeline: not yet run.
        catalog_uri: folder of a `Catalog`.
        retrieval_model_dir: SavedModel with the signature `candidate_examples`.
        index_uri: receives `embeddings-<shard>-of-<shards>.npy`.
        num_rows: items of the catalogue.

    Returns:
        The files, in the order of the catalogue.
    """
    ranges = row_ranges(num_rows)
    with pipeline:
        _ = (
            pipeline
            | "Ranges" >> beam.Create(ranges)
            | "SpreadRanges" >> beam.Reshuffle()
            | "EmbedRows"
            >> beam.ParDo(EmbedRows(catalog_uri, retrieval_model_dir, index_uri))
        )
    return [rows.path(index_uri) for rows in ranges]


class EmbedRows(beam.DoFn):
    """RowRange -> the file of its vectors; nothing comes out."""

    def __init__(self, catalog_uri: str, model_dir: str, index_uri: str) -> None:
        self._catalog_uri = catalog_uri
        self._model_dir = model_dir
        self._index_uri = index_uri
        self._shared = Shared()  # one model in a process, whatever its threads

    def setup(self) -> None:
        self._model = self._shared.acquire(
            lambda: tf.saved_model.load(self._model_dir), tag=self._model_dir
        )

    def process(self, rows: RowRange) -> None:
        embed = self._model.signatures["candidate_examples"]
        file = AtomicFile(rows.path(self._index_uri))
        num_written = 0
        for examples in _examples_of(self._catalog_uri, rows):
            outputs = embed(examples=tf.constant(examples, tf.string))
            vectors = outputs["embeddings"].numpy()
            if num_written == 0:
                shape = (rows.end - rows.begin, vectors.shape[1])
                _write_header(file.handle, shape, vectors.dtype)
            file.handle.write(np.ascontiguousarray(vectors).tobytes())
            num_written += len(vectors)
        if num_written != rows.end - rows.begin:
            raise ValueError(
                f"the catalogue at {self._catalog_uri} has {rows.end} items in its table, "
                f"but {rows.begin + num_written} examples; ingest the log again."
            )
        file.commit()


def _examples_of(catalog_uri: str, rows: RowRange) -> Iterator[np.ndarray]:
    """Yields the serialized examples of a range, a batch at a time.

    The last range has whatever the file holds beyond it too, to be noticed.
    """
    path = FileSystems.join(catalog_uri, ITEMS_EXAMPLES)
    records = tf.data.TFRecordDataset(path, compression_type="GZIP").skip(rows.begin)
    if rows.shard + 1 < rows.num_shards:
        records = records.take(rows.end - rows.begin)
    yield from records.batch(BATCH).as_numpy_iterator()


def _write_header(handle, shape: tuple[int, int], dtype: np.dtype) -> None:
    np.lib.format.write_array_header_1_0(
        handle,
        {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        },
    )


def check_finite(shards: Iterable[np.ndarray], item_ids: list[str]) -> None:
    """Raises ValueError if a vector is not finite; looks at a batch at a time.

    Args:
        shards: arrays of vectors, together in the order of `item_ids`.
        item_ids: of the catalogue.
    """
    num_broken, first, start = 0, "", 0
    for vectors in shards:
        for begin in range(0, len(vectors), BATCH):
            broken = ~np.isfinite(vectors[begin : begin + BATCH]).all(axis=1)
            if broken.any() and not num_broken:
                first = item_ids[start + begin + int(broken.argmax())]
            num_broken += int(broken.sum())
        start += len(vectors)
    if num_broken:
        raise ValueError(
            f"{num_broken} of {len(item_ids)} item vectors are not finite, the first of "
            f"item {first!r}; lower `retrieval.learning_rate`."
        )


def load_shard(path: str) -> np.ndarray:
    """Returns the vectors of one file; mapped, not read, where the file is local."""
    if "://" not in path:
        return np.load(path, mmap_mode="r")
    with FileSystems.open(path) as handle:
        return np.lib.format.read_array(handle)


def shard_files(index_uri: str) -> list[str]:
    """Returns the files of an ItemIndex's vectors, in order."""
    pattern = FileSystems.join(index_uri, "embeddings-*-of-*.npy")
    (matched,) = FileSystems.match([pattern])
    return sorted(file.path for file in matched.metadata_list)


def iterate_vectors(
    index_uri: str, batch_size: int = BATCH
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (row of the first, vectors) of an ItemIndex, a batch at a time."""
    start = 0
    for file in shard_files(index_uri):
        vectors = load_shard(file)
        for begin, end in itertools.pairwise(
            [*range(0, len(vectors), batch_size), len(vectors)]
        ):
            yield start + begin, vectors[begin:end]
        start += len(vectors)
