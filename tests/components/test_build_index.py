"""Item vectors: each beside its own item, finite, and readable by the projector."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.build_index import (
    ItemVectors,
    embed_catalogue,
    item_titles,
    read_vectors,
    run_in_batches,
    sample_vectors,
    write_projector,
    write_vectors,
)
from components.embed_items import iterate_vectors

IDS = ["b", "a", "d", "c"]  # no order of their own
PRICES = [2.0, 1.0, 4.0, 3.0]


def write_catalog(folder: Path, ids=tuple(IDS), prices=tuple(PRICES), **columns) -> str:
    folder.mkdir()
    table = pa.table({"item_id": pa.array(ids, pa.string()), **columns})
    pq.write_table(table, folder / "items.parquet")
    with tf.io.TFRecordWriter(str(folder / "items.tfrecord.gz"), "GZIP") as writer:
        for item, price in zip(ids, prices, strict=True):
            example = tf.train.Example()
            feature = example.features.feature
            feature["item_id"].bytes_list.value.append(item.encode())
            feature["item_price"].float_list.value.append(price)
            writer.write(example.SerializeToString())
    return str(folder)


class Tower(tf.Module):
    """Embeds an item as (price, 1 / price): infinite for what is free."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def candidate_examples(self, examples):
        spec = {"item_price": tf.io.FixedLenFeature([], tf.float32)}
        price = tf.io.parse_example(examples, spec)["item_price"]
        return {"embeddings": tf.stack([price, 1.0 / price], axis=1)}


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tower"))
    module = Tower()
    tf.saved_model.save(
        module, folder, signatures={"candidate_examples": module.candidate_examples}
    )
    return folder


def check_vectors(embed, catalog: str, tower: str) -> None:
    """The checker, by hand: each vector is of the item at its place."""
    vectors = embed(catalog, tower)
    assert vectors.item_ids == IDS
    expected = [[2.0, 1 / 2], [1.0, 1.0], [4.0, 1 / 4], [3.0, 1 / 3]]
    np.testing.assert_allclose(vectors.embeddings, expected, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 4, 4096])
def test_vectors_stand_beside_their_items(tmp_path, tower, monkeypatch, batch):
    monkeypatch.setattr("components.build_index.BATCH", batch)
    check_vectors(embed_catalogue, write_catalog(tmp_path / "catalog"), tower)


def _sorted_ids(catalog, tower):
    vectors = embed_catalogue(catalog, tower)
    return ItemVectors(sorted(vectors.item_ids), vectors.embeddings)


def _first_batch_only(catalog, tower):
    vectors = embed_catalogue(catalog, tower)
    return ItemVectors(vectors.item_ids, vectors.embeddings[:3])


@pytest.mark.parametrize("wrong", [_sorted_ids, _first_batch_only])
def test_vector_checker_rejects(wrong, tmp_path, tower):
    with pytest.raises(AssertionError):
        check_vectors(wrong, write_catalog(tmp_path / "catalog"), tower)


def test_empty_catalogue_is_named(tmp_path, tower):
    catalog = write_catalog(tmp_path / "catalog", (), ())
    with pytest.raises(ValueError, match="catalog holds no items to index"):
        embed_catalogue(catalog, tower)


def test_vector_that_is_not_finite_names_its_item_and_the_mend(tmp_path, tower):
    catalog = write_catalog(tmp_path / "catalog", prices=(2.0, 1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="2 of 4 item vectors.*'d'.*learning_rate"):
        embed_catalogue(catalog, tower)


def test_run_in_batches_joins_the_chunks_in_order(monkeypatch):
    monkeypatch.setattr("components.build_index.BATCH", 2)
    sizes = []

    def length(examples):
        sizes.append(int(tf.size(examples)))
        return {"size": tf.strings.length(examples), "other": examples}

    texts = np.array([b"a", b"bb", b"ccc", b"", b"dddd"], object)
    assert run_in_batches(length, texts, "size").tolist() == [1, 2, 3, 0, 4]
    assert sizes == [2, 2, 1]


def test_vectors_survive_their_files(tmp_path):
    vectors = ItemVectors(["ä", "b\n"], np.array([[0.1, 2.0], [3.0, -4.0]], np.float32))
    write_vectors(vectors, str(tmp_path))
    again = read_vectors(str(tmp_path))
    assert again.item_ids == vectors.item_ids
    assert again.embeddings.dtype == np.float32
    np.testing.assert_array_equal(again.embeddings, vectors.embeddings)
    # The contract of components/artifacts.py, for readers that are not ours.
    assert json.loads((tmp_path / "item_ids.json").read_text()) == ["ä", "b\n"]
    assert (tmp_path / "embeddings-00000-of-00001.npy").is_file()
    assert isinstance(again.embeddings, np.memmap)  # mapped, not read


def test_vectors_of_many_shards_are_read_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("components.embed_items._ROWS_PER_SHARD", 1)
    monkeypatch.setattr("components.embed_items._MAX_SHARDS", 4)
    monkeypatch.setattr("components.embed_items.BATCH", 2)
    ids = [f"i{row}" for row in range(11)]
    embeddings = np.random.default_rng(0).random((11, 3), np.float32)
    write_vectors(ItemVectors(ids, embeddings), str(tmp_path))
    assert len(list(tmp_path.glob("*.npy"))) == 3
    again = read_vectors(str(tmp_path))
    assert again.item_ids == ids
    np.testing.assert_array_equal(again.embeddings, embeddings)
    batches = list(iterate_vectors(str(tmp_path), batch_size=3))
    assert [start for start, _ in batches] == [0, 3, 4, 7, 8]
    joined = np.concatenate([vectors for _, vectors in batches])
    np.testing.assert_array_equal(joined, embeddings)


def test_items_go_by_title_where_there_is_one(tmp_path):
    titles = pa.array(["Brazil", None, "", "Casablanca"])
    with_titles = write_catalog(tmp_path / "titles", title=titles)
    assert item_titles(with_titles, IDS) == {
        "b": "Brazil",
        "a": "a",
        "d": "d",
        "c": "Casablanca",
    }
    assert item_titles(with_titles, ["c", "gone"]) == {
        "c": "Casablanca",
        "gone": "gone",
    }
    without = write_catalog(tmp_path / "none")
    assert item_titles(without, IDS) == {item: item for item in IDS}


@pytest.mark.parametrize(
    ("max_items", "rows"),
    [
        (11, range(11)),
        (20, range(11)),
        (10, [0, 2, 4, 6, 8, 10]),
        (3, [0, 4, 8]),
        (1, [0]),
    ],
)
def test_sample_is_every_nth_vector_beside_its_item(
    tmp_path, monkeypatch, max_items, rows
):
    monkeypatch.setattr("components.embed_items._ROWS_PER_SHARD", 1)
    monkeypatch.setattr("components.embed_items._MAX_SHARDS", 4)
    monkeypatch.setattr("components.embed_items.BATCH", 3)
    ids = [f"i{row}" for row in range(11)]
    embeddings = np.arange(22, dtype=np.float32).reshape(11, 2)
    write_vectors(ItemVectors(ids, embeddings), str(tmp_path))
    sample = sample_vectors(str(tmp_path), max_items)
    assert sample.item_ids == [f"i{row}" for row in rows]
    np.testing.assert_array_equal(sample.embeddings, embeddings[list(rows)])


def test_projector_has_a_label_for_each_vector_whatever_is_in_a_title(tmp_path):
    titles = pa.array(["One\ttab", "Two\nlines", None, "Vier Fäuste"])
    catalog = write_catalog(tmp_path / "catalog", title=titles)
    vectors = ItemVectors(["c", "b", "a", "d"], np.eye(4, dtype=np.float32))
    logs = tmp_path / "logs" / "run"
    write_projector(vectors, catalog, str(logs))
    labels = (logs / "labels.tsv").read_text("utf-8").splitlines()
    assert labels == ["Vier Fäuste", "One tab", "Two lines", "d"]
    np.testing.assert_array_equal(np.loadtxt(logs / "vectors.tsv"), np.eye(4))
    config = (logs / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "vectors.tsv"' in config
    assert 'metadata_path: "labels.tsv"' in config
    # TensorBoard lists a folder as a run only where it finds an event file.
    assert list(logs.glob("events.out.tfevents.*"))
