"""The catalogue embedded by Beam: the vectors of one process, to the bit."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from components import embed_items
from components.build_index import (
    build_vectors,
    embed_catalogue,
    read_vectors,
    write_vectors,
)
from components.embed_items import check_finite, row_ranges

RUNNER = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"
IN_MEMORY = [RUNNER, "--direct_running_mode=in_memory", "--direct_num_workers=1"]
TWO_PROCESSES = [
    RUNNER,
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=2",
]
NUM_ITEMS = 37_000  # three shards, the last one not whole


class Tower(tf.Module):
    """Embeds an item's price through a layer whose sums depend on their order."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.first = tf.Variable(rng.normal(size=(64,)).astype(np.float32))
        self.second = tf.Variable(rng.normal(size=(64, 16)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def candidate_examples(self, examples):
        spec = {"item_price": tf.io.FixedLenFeature([], tf.float32)}
        price = tf.io.parse_example(examples, spec)["item_price"]
        hidden = tf.sin(price[:, tf.newaxis] * self.first)
        return {"embeddings": tf.math.l2_normalize(hidden @ self.second, axis=1)}


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tower"))
    module = Tower()
    tf.saved_model.save(
        module, folder, signatures={"candidate_examples": module.candidate_examples}
    )
    return folder


def write_catalog(folder: Path, num_items: int, num_examples: int) -> str:
    folder.mkdir()
    ids = pa.array([f"i{row}" for row in range(num_items)], pa.string())
    pq.write_table(pa.table({"item_id": ids}), folder / "items.parquet")
    with tf.io.TFRecordWriter(str(folder / "items.tfrecord.gz"), "GZIP") as writer:
        for row in range(num_examples):
            example = tf.train.Example()
            values = example.features.feature["item_price"].float_list.value
            values.append(row * 0.001)
            writer.write(example.SerializeToString())
    return str(folder)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog") / "all"
    return write_catalog(folder, NUM_ITEMS, NUM_ITEMS)


@pytest.fixture(scope="module")
def expected(catalog, tower, tmp_path_factory):
    """Returns the files that one process writes, by name."""
    folder = tmp_path_factory.mktemp("one process")
    write_vectors(embed_catalogue(catalog, tower), str(folder))
    return files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def build(
    catalog: str, tower: str, folder: Path, options=IN_MEMORY
) -> dict[str, bytes]:
    folder.mkdir()
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    build_vectors(pipeline, catalog, tower, str(folder))
    return files_of(folder)


def check_files(files: dict[str, bytes], expected: dict[str, bytes]) -> None:
    assert sorted(files) == sorted(expected)
    differing = [name for name in files if files[name] != expected[name]]
    assert not differing


def test_beam_writes_the_bytes_of_one_process(catalog, tower, expected, tmp_path):
    assert sorted(expected) == [
        *(f"embeddings-0000{shard}-of-00003.npy" for shard in range(3)),
        "item_ids.json",
    ]
    check_files(build(catalog, tower, tmp_path / "index"), expected)
    vectors = read_vectors(str(tmp_path / "index"))
    assert vectors.item_ids[-1] == f"i{NUM_ITEMS - 1}"
    assert vectors.embeddings.shape == (NUM_ITEMS, 16)
    assert vectors.embeddings.dtype == np.float32


@pytest.mark.component  # starts processes
def test_two_processes_write_the_same_bytes(catalog, tower, expected, tmp_path):
    check_files(build(catalog, tower, tmp_path / "index", TWO_PROCESSES), expected)


def _from_the_first_row(catalog_uri, rows):
    records = tf.data.TFRecordDataset(
        f"{catalog_uri}/items.tfrecord.gz", compression_type="GZIP"
    )
    yield from records.take(rows.end - rows.begin).batch(4096).as_numpy_iterator()


def _one_row_late(catalog_uri, rows):
    records = tf.data.TFRecordDataset(
        f"{catalog_uri}/items.tfrecord.gz", compression_type="GZIP"
    )
    records = records.skip(rows.begin + 1).concatenate(records.take(1))
    yield from records.take(rows.end - rows.begin).batch(4096).as_numpy_iterator()


@pytest.mark.parametrize("wrong", [_from_the_first_row, _one_row_late])
def test_file_checker_rejects(wrong, catalog, tower, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_items, "_examples_of", wrong)
    with pytest.raises(AssertionError):
        check_files(build(catalog, tower, tmp_path / "index"), expected)


def test_model_is_loaded_once_and_batches_are_all_a_worker_holds(
    catalog, tower, tmp_path, monkeypatch
):
    loads, sizes = [], []
    load, examples_of = tf.saved_model.load, embed_items._examples_of

    def counting_load(path):
        loads.append(path)
        return load(path)

    def measured(catalog_uri, rows):
        for batch in examples_of(catalog_uri, rows):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(tf.saved_model, "load", counting_load)
    monkeypatch.setattr(embed_items, "_examples_of", measured)
    build(catalog, tower, tmp_path / "index")
    assert loads == [tower]
    assert sum(sizes) == NUM_ITEMS and max(sizes) == 4096


@pytest.mark.parametrize("num_rows", [0, 1, 4096, 16_384, 16_385, 10**6, 10**9])
def test_ranges_cover_every_row_once_in_few_shards(num_rows):
    ranges = row_ranges(num_rows)
    assert len(ranges) <= 32
    assert [rows.begin for rows in ranges] == [0, *(r.end for r in ranges[:-1])][
        : len(ranges)
    ]
    assert not ranges or ranges[-1].end == num_rows
    assert all(rows.begin % 4096 == 0 and rows.begin < rows.end for rows in ranges)
    assert [rows.shard for rows in ranges] == list(range(len(ranges)))


@pytest.mark.parametrize("num_examples", [2, 4])
def test_table_and_examples_that_differ_are_named(tmp_path, tower, num_examples):
    catalog = write_catalog(tmp_path / "catalog", 3, num_examples)
    with pytest.raises(Exception, match=rf"3 items in its table, but {num_examples} "):
        build(catalog, tower, tmp_path / "index")


def test_empty_catalogue_is_named(tmp_path, tower):
    catalog = write_catalog(tmp_path / "catalog", 0, 0)
    with pytest.raises(ValueError, match="catalog holds no items to index"):
        build(catalog, tower, tmp_path / "index")


def test_vector_that_is_not_finite_is_found_in_any_shard():
    shards = [np.zeros((5000, 2)), np.zeros((3, 2))]
    ids = [f"i{row}" for row in range(5003)]
    check_finite(shards, ids)
    shards[1][2, 1] = np.inf
    with pytest.raises(ValueError, match="1 of 5003 .*'i5002'"):
        check_finite(shards, ids)
    shards[0][4500, 0] = np.nan
    with pytest.raises(ValueError, match=r"2 of 5003 .*'i4500'.*learning_rate"):
        check_finite(shards, ids)
