"""Embeds the catalogue with the item tower and lays the vectors out for search.

Also writes them for TensorBoard's projector, labelled with the items' titles.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from tensorboard.plugins import projector

from components.read_examples import read_serialized
from schemas.features import ITEM_ID

ITEMS_TABLE = "items.parquet"
ITEMS_EXAMPLES = "items.tfrecord.gz"
_IDS_FILE = "item_ids.json"
_EMBEDDINGS_FILE = "embeddings.npy"
_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class ItemVectors:
    """The catalogue's vectors: row i of `embeddings` [N, K] belongs to `item_ids[i]`."""

    item_ids: list[str]
    embeddings: np.ndarray


def embed_catalogue(catalog_uri: str, retrieval_model_dir: str) -> ItemVectors:
    """Runs the item tower over every item of the catalogue.

    Raises:
        ValueError: if the catalogue is empty, or a vector is not finite.
    """
    table = pq.read_table(Path(catalog_uri) / ITEMS_TABLE, columns=[ITEM_ID])
    item_ids = table.column(ITEM_ID).to_pylist()
    if not item_ids:
        raise ValueError(f"The catalogue at {catalog_uri} holds no items to index.")
    examples = read_serialized([str(Path(catalog_uri) / ITEMS_EXAMPLES)])
    embed = tf.saved_model.load(retrieval_model_dir).signatures["candidate_examples"]
    embeddings = run_in_batches(embed, examples, "embeddings")
    broken = ~np.isfinite(embeddings).all(axis=1)
    if broken.any():
        raise ValueError(
            f"{broken.sum()} of {len(item_ids)} item vectors are not finite, the first of "
            f"item {item_ids[int(broken.argmax())]!r}; lower `retrieval.learning_rate`."
        )
    return ItemVectors(item_ids, embeddings)


def run_in_batches(signature, examples: np.ndarray, output: str) -> np.ndarray:
    """Applies a signature on `examples` chunk by chunk; returns one output, joined."""
    chunks = [
        signature(examples=tf.constant(examples[start : start + _BATCH], tf.string))
        for start in range(0, len(examples), _BATCH)
    ]
    return np.concatenate([chunk[output].numpy() for chunk in chunks])


def write_vectors(vectors: ItemVectors, uri: str) -> None:
    """Writes the vectors into an ItemIndex artifact."""
    (Path(uri) / _IDS_FILE).write_text(json.dumps(vectors.item_ids))
    np.save(Path(uri) / _EMBEDDINGS_FILE, vectors.embeddings)


def read_vectors(uri: str) -> ItemVectors:
    """Reads the vectors of an ItemIndex artifact."""
    item_ids = json.loads((Path(uri) / _IDS_FILE).read_text())
    return ItemVectors(item_ids, np.load(Path(uri) / _EMBEDDINGS_FILE))


def write_projector(vectors: ItemVectors, catalog_uri: str, log_dir: str) -> None:
    """Writes the vectors as a TensorBoard run with labels for the projector.

    The label of an item is its `title` where the items table has one, else its id.
    """
    logs = Path(log_dir)
    logs.mkdir(parents=True, exist_ok=True)
    labels = item_titles(catalog_uri)
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


def item_titles(catalog_uri: str) -> dict[str, str]:
    """Returns a name for each item: its title where there is one, else its id."""
    table = pq.read_table(Path(catalog_uri) / ITEMS_TABLE)
    item_ids = table.column(ITEM_ID).to_pylist()
    if "title" not in table.column_names:
        return {item: item for item in item_ids}
    titles = table.column("title").to_pylist()
    return {item: title or item for item, title in zip(item_ids, titles, strict=True)}
