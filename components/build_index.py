"""Embeds the catalogue with the item tower and lays the vectors out for search.

Also writes them for TensorBoard's projector, labelled with the items' titles.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from tensorboard.plugins import projector

from components.beam_data_plane import send_whole_buffers
from components.catalog_files import ITEMS_EXAMPLES, ITEMS_TABLE
from components.embed_items import (
    BATCH,
    check_finite,
    embed_items,
    iterate_vectors,
    load_shard,
    row_ranges,
    shard_files,
)
from components.ingestion import output
from components.read_examples import read_serialized
from schemas.features import ITEM_ID

_IDS_FILE = "item_ids.json"
# More points than this the projector cannot draw, and a browser cannot load.
_MAX_PROJECTED = 20_000


@dataclasses.dataclass(frozen=True)
class ItemVectors:
    """The catalogue's vectors: row i of `embeddings` [N, K] belongs to `item_ids[i]`."""

    item_ids: list[str]
    embeddings: np.ndarray


def build_vectors(
    pipeline: beam.Pipeline,
    catalog_uri: str,
    retrieval_model_dir: str,
    index_uri: str,
) -> None:
    """Fills an ItemIndex with the vector of every item, on the runner of `pipeline`.

    The files are those of `write_vectors(embed_catalogue(...))`, to the bit, but never
    more than a batch of vectors is in one process.

    Raises:
        ValueError: if the catalogue is empty, or a vector is not finite.
    """
    item_ids = _item_ids(catalog_uri)
    send_whole_buffers()
    files = embed_items(
        pipeline, catalog_uri, retrieval_model_dir, index_uri, len(item_ids)
    )
    check_finite(map(load_shard, files), item_ids)
    _write_ids(item_ids, index_uri)


def embed_catalogue(catalog_uri: str, retrieval_model_dir: str) -> ItemVectors:
    """Runs the item tower over every item of the catalogue, in this process.

    Raises:
        ValueError: as `build_vectors`.
    """
    item_ids = _item_ids(catalog_uri)
    examples = read_serialized([FileSystems.join(catalog_uri, ITEMS_EXAMPLES)])
    embed = tf.saved_model.load(retrieval_model_dir).signatures["candidate_examples"]
    embeddings = run_in_batches(embed, examples, "embeddings")
    check_finite([embeddings], item_ids)
    return ItemVectors(item_ids, embeddings)


def _item_ids(catalog_uri: str) -> list[str]:
    with FileSystems.open(FileSystems.join(catalog_uri, ITEMS_TABLE)) as handle:
        table = pq.read_table(handle, columns=[ITEM_ID])
    item_ids = table.column(ITEM_ID).to_pylist()
    if not item_ids:
        raise ValueError(f"The catalogue at {catalog_uri} holds no items to index.")
    return item_ids


def run_in_batches(signature, examples: np.ndarray, output: str) -> np.ndarray:
    """Applies a signature on `examples` chunk by chunk; returns one output, joined."""
    chunks = [
        signature(examples=tf.constant(examples[start : start + BATCH], tf.string))
        for start in range(0, len(examples), BATCH)
    ]
    return np.concatenate([chunk[output].numpy() for chunk in chunks])


def write_vectors(vectors: ItemVectors, uri: str) -> None:
    """Writes the vectors into an ItemIndex artifact."""
    for rows in row_ranges(len(vectors.item_ids)):
        file = output.AtomicFile(rows.path(uri))
        np.save(file.handle, vectors.embeddings[rows.begin : rows.end])
        file.commit()
    _write_ids(vectors.item_ids, uri)


def _write_ids(item_ids: list[str], uri: str) -> None:
    output.write_text(FileSystems.join(uri, _IDS_FILE), json.dumps(item_ids))


def _read_ids(uri: str) -> list[str]:
    with FileSystems.open(FileSystems.join(uri, _IDS_FILE)) as handle:
        return json.loads(handle.read())


def read_vectors(uri: str) -> ItemVectors:
    """Reads the vectors of an ItemIndex artifact.

    A local index of one file is mapped, not read. `embed_items.iterate_vectors` gives
    any index batch by batch.
    """
    item_ids = _read_ids(uri)
    shards = [load_shard(file) for file in shard_files(uri)]
    return ItemVectors(
        item_ids, shards[0] if len(shards) == 1 else np.concatenate(shards)
    )


def sample_vectors(uri: str, max_items: int = _MAX_PROJECTED) -> ItemVectors:
    """Reads every n-th vector of an ItemIndex artifact, at most `max_items` of them."""
    item_ids = _read_ids(uri)
    every = max(1, -(-len(item_ids) // max_items))
    parts = [
        # The rows of this batch that are multiples of `every`.
        np.array(vectors[-start % every :: every])
        for start, vectors in iterate_vectors(uri)
    ]
    return ItemVectors(item_ids[::every], np.concatenate(parts))


def write_projector(vectors: ItemVectors, catalog_uri: str, log_dir: str) -> None:
    """Writes vectors as a TensorBoard run with labels for the projector.

    The label of an item is its `title` where the items table has one, else its id.
    """
    logs = Path(log_dir)
    logs.mkdir(parents=True, exist_ok=True)
    labels = item_titles(catalog_uri, vectors.item_ids)
    names = [
        labels[item].replace("\t", " ").replace("\n", " ") for item in vectors.item_ids
    ]
    (logs / "labels.tsv").write_text("\n".join(names) + "\n")
    np.savetxt(logs / "vectors.tsv", vectors.embeddings, fmt="%.5f", delimiter="\t")
    config = projector.ProjectorConfig()
    config.embeddings.add(
        tensor_name="item vectors",
        tensor_path="vectors.tsv",
        metadata_path="labels.tsv",
    )
    projector.visualize_embeddings(str(logs), config)
    # The projector looks only where TensorBoard sees a run, that is, an event file.
    with tf.summary.create_file_writer(str(logs)).as_default():
        tf.summary.scalar("index/items", len(names), step=0)


def item_titles(catalog_uri: str, item_ids: Sequence[str]) -> dict[str, str]:
    """Returns a name for each of some items: its title if there is one, else its id."""
    names = {item: item for item in item_ids}
    with FileSystems.open(FileSystems.join(catalog_uri, ITEMS_TABLE)) as handle:
        file = pq.ParquetFile(handle)
        if "title" not in file.schema_arrow.names:
            return names
        table = file.read(columns=[ITEM_ID, "title"])
    wanted = pc.is_in(table.column(ITEM_ID), pa.array(item_ids, pa.string()))
    rows = table.filter(wanted).to_pylist()
    return names | {row[ITEM_ID]: row["title"] for row in rows if row["title"]}
