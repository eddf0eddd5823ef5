"""Two spans through the real trainers: the second goes on where the first ended."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.continue_release import continue_release, write_ranking_base
from components.export_recommender import TrainedStages, export_ranking
from models.bandit import bayesian_fm_release
from models.continuation import ContinuationError
from models.preprocessing import TransformGraph
from models.ranking import trainer as ranking_trainer
from models.ranking.settings import RankingSettings
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
RANKING = RankingSettings.model_validate(
    {"model": "bayesian_fm", "bayesian_fm": {"embedding_dim": 2}, "batch_size": 2}
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


def train(
    folder: Path,
    graph: Path,
    train_files,
    eval_files,
    base=None,
    run=run_fn,
    settings=SETTINGS,
) -> Path:
    """Returns the folder of the model, as TFX's Trainer leaves it."""
    run(
        SimpleNamespace(
            train_files=train_files,
            eval_files=eval_files,
            transform_output=str(graph),
            serving_model_dir=str(folder / "Format-Serving"),
            model_run_dir=str(folder / "logs"),
            base_model=None if base is None else str(base),
            custom_config={
                "catalog": CATALOG.model_dump_json(),
                "settings": settings.model_dump_json(),
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
    rank = {"run": ranking_trainer.run_fn, "settings": RANKING}
    ranker = train(folder / "ranker", graph, rows[:1], rows[1:2], **rank)
    export_ranker(ranker, first)
    grown, base = folder / "grown", folder / "base"
    num_new = continue_release(
        first, analysed, grown, base, SETTINGS, CATALOG, [0, 600, 800], 1000, RANKING
    )
    second = train(folder / "second", grown, rows[:3], rows[3:], base)
    ranker = train(folder / "second_ranker", grown, rows[:3], rows[3:], base, **rank)
    return SimpleNamespace(
        folder=folder,
        analysed=analysed,
        first=first,
        second=second,
        ranker=ranker,
        grown=grown,
        base=base,
        num_new=num_new,
        rows=rows,
    )


def export_ranker(ranker: Path, release: Path) -> None:
    """Writes what becomes the release's `ranking`, as ExportRecommender does."""
    served = ranker / "Format-Serving"
    stages = TrainedStages(
        None,
        None,
        tf.saved_model.load(str(served)),
        record_dir=served / bayesian_fm_release.EXTRA_ASSETS,
    )
    export_ranking(stages, str(release))


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


def continued(release, spans, folder, until=1000, ranking=None):
    return continue_release(
        release,
        spans.analysed,
        folder / "graph",
        folder / "base",
        SETTINGS,
        CATALOG,
        [0],
        until,
        ranking,
    )


def test_without_a_release_the_graph_is_the_analysed_one(spans, tmp_path):
    nothing = continued(None, spans, tmp_path)
    assert nothing is None
    assert find_checkpoint(str(tmp_path / "base")) is None
    assets = "transform_fn/assets/item_id"
    assert (tmp_path / "graph" / assets).read_bytes() == (
        spans.analysed / assets
    ).read_bytes()


def test_release_that_knows_the_span_cannot_be_continued(spans, tmp_path):
    with pytest.raises(ContinuationError, match="it would be tested on what it knows"):
        continued(spans.second, spans, tmp_path, 900)
    assert not (tmp_path / "graph").exists()


def test_second_spans_posterior_goes_on_from_the_releases(spans):
    served = spans.ranker / "Format-Serving"
    before, after = (
        bayesian_fm_release.read_record(folder)
        for folder in (spans.base / "ranking", served)
    )
    assert (before.trained_through, before.continued_from) == (500, None)
    assert (after.trained_through, after.continued_from) == (900, 500)
    assert (before.num_rows, after.num_rows) == (NUM_BEFORE, 4)
    assert after.field_rows["item_id_xf"] == before.field_rows["item_id_xf"] + 2
    tables = [
        tf.saved_model.load(str(folder)).model
        for folder in (spans.base / "ranking", served)
    ]
    # Item d is the first of the vocabulary; no row of the second span holds it as a
    # candidate. Item b, behind it, is in rows of both.
    row = 1 + CATALOG.id_hash_buckets
    known, grown = (first_row(record, "item_id_xf") + row for record in (before, after))
    for name in ("means", "precisions"):
        old, new = (getattr(table, name).numpy() for table in tables)
        np.testing.assert_array_equal(new[grown], old[known])
        assert (new[grown + 1, 0] != old[known + 1, 0]).all()
    example = tf.constant([serialized(records()[0])])
    ranker = tf.saved_model.load(str(served))
    assert ranker.signatures["posterior"](example)["deviations"].numpy() > 0


def first_row(record, field):
    names = list(record.field_rows)
    return sum(record.field_rows[name] for name in names[: names.index(field)])


def test_a_ranker_that_is_trained_anew_gets_no_base(spans, tmp_path):
    for number, ranking in enumerate([None, RankingSettings(), RANKING]):
        folder = tmp_path / str(number)
        continued(spans.first, spans, folder, ranking=ranking)
        assert (folder / "base" / "ranking").exists() == (ranking is RANKING)


def test_ranker_that_cannot_be_continued_stops_the_run_before_it_trains(
    spans, tmp_path
):
    section = RANKING.bayesian_fm.model_copy(update={"embedding_dim": 5})
    with pytest.raises(ContinuationError, match="embedding_dim: 5, but the posterior"):
        continued(
            spans.first,
            spans,
            tmp_path,
            ranking=RANKING.model_copy(update={"bayesian_fm": section}),
        )
    assert not (tmp_path / "graph").exists()


def test_ranker_learns_from_the_vectors_of_the_towers(spans):
    base = spans.folder / "towers_base"
    write_ranking_base(spans.second / "Format-Serving", None, base)
    assert [part.name for part in base.iterdir()] == ["towers"]
    section = RANKING.bayesian_fm.model_copy(update={"two_tower_features": True})
    settings = RANKING.model_copy(update={"bayesian_fm": section})
    asked = {"run": ranking_trainer.run_fn, "settings": settings}
    args = (spans.folder / "tower_ranker", spans.grown, spans.rows[:1], spans.rows[1:2])
    with pytest.raises(ValueError, match="RankingBase puts them there"):
        train(*args, **asked)
    served = train(*args, base, **asked) / "Format-Serving"
    record = bayesian_fm_release.read_record(served)
    fields = ["two_tower_query_xf", "two_tower_item_xf"]
    assert [record.field_rows[name] for name in fields] == [4, 4]
    ranker = tf.saved_model.load(str(served))
    for name in fields:
        first = first_row(record, name)
        weights = ranker.model.means.numpy()[first : first + 4, 0]
        assert (weights != 0).all()
    logits = ranker.signatures["logits"](tf.constant([serialized(records()[0])]))
    assert np.isfinite(logits["logits"]).all()


def test_ranking_base_holds_the_releases_ranker_where_training_goes_on(spans, tmp_path):
    towers = spans.second / "Format-Serving"
    write_ranking_base(towers, spans.base, tmp_path / "base")
    assert sorted(p.name for p in (tmp_path / "base").iterdir()) == [
        "ranking",
        "towers",
    ]
    write_ranking_base(towers, spans.folder, tmp_path / "first")
    assert [p.name for p in (tmp_path / "first").iterdir()] == ["towers"]
