"""Two spans through the real trainer: the second goes on where the first ended."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.continue_release import continue_release
from models.continuation import ContinuationError
from models.preprocessing import TransformGraph
from models.retrieval.checkpoint import (
    CHECKPOINT,
    StoredState,
    find_checkpoint,
    read_record,
)
from models.retrieval.settings import Optimizer, RetrievalSettings
from models.retrieval.trainer import run_fn
from tests.models.conftest import transform_uri  # noqa: F401  (a fixture)
from tests.models.transform_graphs import with_vocabularies
from tests.models.transform_world import CATALOG, records, serialized

pytestmark = pytest.mark.component
SETTINGS = RetrievalSettings(
    embedding_dim=4,
    batch_size=2,
    max_epochs=1,
    frequency_buckets=64,
    optimizer=Optimizer.SPARSE_ADAMW,
)
NUM_BEFORE = 6  # rows of the first span; rows are 100 ms apart


def write_rows(path: Path, begin: int, end: int) -> str:
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for number, record in enumerate(records()[begin:end], begin):
            example = tf.train.Example.FromString(serialized(record))
            at = example.features.feature["timestamp"].int64_list
            at.value.append(100 * number)
            writer.write(example.SerializeToString())
    return str(path)


def train(folder: Path, graph: Path, train_files, eval_files, base=None) -> Path:
    """Returns the folder of the model, as TFX's Trainer leaves it."""
    run_fn(
        SimpleNamespace(
            train_files=train_files,
            eval_files=eval_files,
            transform_output=str(graph),
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "logs"),
            base_model=None if base is None else str(base),
            custom_config={
                "catalog": CATALOG.model_dump_json(),
                "settings": SETTINGS.model_dump_json(),
            },
        )
    )
    return folder


@pytest.fixture(scope="module")
def spans(transform_uri, tmp_path_factory):  # noqa: F811
    """The first span's model, what the second starts from, and its model."""
    folder = tmp_path_factory.mktemp("spans")
    analysed = Path(transform_uri)
    # As analysed over the first span: two of the four items, in another order.
    graph = with_vocabularies(analysed, folder / "graph", {"item_id": ["d", "b"]})
    rows = [
        write_rows(folder / f"{begin}.gz", begin, end)
        for begin, end in ((0, 4), (4, NUM_BEFORE), (NUM_BEFORE, 9), (9, 10))
    ]
    first = train(folder / "first", graph, rows[:1], rows[1:2])
    grown, base = folder / "grown", folder / "base"
    num_new = continue_release(
        first, analysed, grown, base, SETTINGS, CATALOG, [0, 600, 800], 1000
    )
    second = train(folder / "second", grown, rows[:3], rows[3:], base)
    return SimpleNamespace(
        folder=folder,
        analysed=analysed,
        first=first,
        second=second,
        grown=grown,
        base=base,
        num_new=num_new,
    )


def test_second_span_learns_the_new_rows_alone(spans):
    first, second = (
        read_record(folder / CHECKPOINT) for folder in (spans.first, spans.second)
    )
    assert (first.trained_through, first.continued_from) == (500, None)
    assert (second.trained_through, second.continued_from) == (900, 500)
    assert (first.cost.rows, second.cost.rows) == (NUM_BEFORE, 4)
    # A step for each batch of two, and none besides: six rows afresh, then four more.
    states = [
        StoredState(folder / CHECKPOINT) for folder in (spans.first, spans.second)
    ]
    assert [int(state("iterations")) for state in states] == [3, 5]
    assert [int(state("frequency", "step")) for state in states] == [3, 5]


def test_known_items_keep_their_ids_and_new_ones_come_behind(spans):
    assert spans.num_new["item_id"] == 2
    sizes = [
        read_record(f / CHECKPOINT).tables["item"] for f in (spans.first, spans.second)
    ]
    assert sizes[1][0] == sizes[0][0] + 2
    assert sizes[1][1:] == sizes[0][1:]
    graphs = [spans.first / CHECKPOINT / "transform_graph", spans.grown]
    known = [
        TransformGraph(str(graph), CATALOG).space.item_id.num_ids for graph in graphs
    ]
    assert known == [size[0] for size in sizes]


def test_rows_that_no_new_batch_held_are_as_they_were(spans):
    before, after = (
        StoredState(folder / CHECKPOINT) for folder in (spans.first, spans.second)
    )
    record = read_record(spans.first / CHECKPOINT)
    num_rows = sum(record.tables["item"])
    place = [shape[:1] for _, shape in record.weights].index((num_rows,))
    # Item d is the first of the vocabulary; no row of the second span holds it.
    row = 1 + CATALOG.id_hash_buckets
    for at in (
        ("weights", place),
        *(("slots", name, place) for name in ("first", "count")),
    ):
        np.testing.assert_array_equal(before(*at)[row], after(*at)[row])
    # Item b, behind it, is in rows of both.
    assert (
        after("slots", "count", place)[row + 1]
        > before("slots", "count", place)[row + 1]
    )


def test_served_model_holds_no_slots_and_no_estimates(spans):
    model = tf.saved_model.load(str(spans.second / "Format-Serving"))
    example = tf.constant([serialized(records()[0])])
    for name in ("query_examples", "candidate_examples"):
        vectors = model.signatures[name](examples=example)["embeddings"]
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    path = str(spans.second / "Format-Serving" / "variables" / "variables")
    served = [name for name, _ in tf.train.list_variables(path)]
    assert not [name for name in served if "optimizer" in name or "frequency" in name]


def test_without_a_release_the_graph_is_the_analysed_one(spans, tmp_path):
    nothing = continue_release(
        None,
        spans.analysed,
        tmp_path / "graph",
        tmp_path / "base",
        SETTINGS,
        CATALOG,
        [0],
        1000,
    )
    assert nothing is None
    assert find_checkpoint(str(tmp_path / "base")) is None
    assets = "transform_fn/assets/item_id"
    assert (tmp_path / "graph" / assets).read_bytes() == (
        spans.analysed / assets
    ).read_bytes()


def test_release_that_knows_the_span_cannot_be_continued(spans, tmp_path):
    with pytest.raises(ContinuationError, match="it would be tested on what it knows"):
        continue_release(
            spans.second,
            spans.analysed,
            tmp_path / "graph",
            tmp_path / "base",
            SETTINGS,
            CATALOG,
            [0],
            900,
        )
    assert not (tmp_path / "graph").exists()
