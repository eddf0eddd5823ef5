"""Training that goes on from a checkpoint goes on as if it had never stopped."""

import json

import numpy as np
import pytest
import tensorflow as tf

from models.continuation import ContinuationError
from models.feature_space import FeatureSpace
from models.retrieval.checkpoint import (
    CHECKPOINT,
    Cost,
    embeddings,
    find_checkpoint,
    read_record,
    save_checkpoint,
    training_state,
)
from models.retrieval.settings import Optimizer, RetrievalSettings
from models.retrieval.trainer import make_optimizer
from models.retrieval.two_tower import TwoTower
from models.retrieval.warm_start import (
    FREE_SETTINGS,
    check_continuable,
    grown_rows,
    read_span_starts,
    restore,
    write_base,
)
from schemas.features import Feature, FeatureCatalog, FeatureKind

CATALOG = FeatureCatalog(
    user=(Feature(name="city", kind=FeatureKind.CATEGORICAL, hash_buckets=2),),
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL, hash_buckets=1),
        Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=9),
        Feature(name="price", kind=FeatureKind.NUMERIC),
    ),
    history_length=4,
    id_hash_buckets=1,
)
SIZES = {"user_id": 9, "item_id": 12, "user_city": 3, "item_genres": 4}
GROWN = {"user_id": 11, "item_id": 17, "user_city": 4, "item_genres": 6}
# Padding and the bucket come first: rows of items, genres and titles, before and after.
ROWS, GROWN_ROWS = [14, 6, 10], [19, 8, 10]
COST = Cost(rows=5, seconds=1.5, cpu_seconds=2.0)


def make_model(sizes=SIZES, seed=1, **changed):
    tf.keras.utils.set_random_seed(seed)
    settings = RetrievalSettings(
        **{
            "embedding_dim": 4,
            "dropout": 0.0,
            "frequency_buckets": 64,
            "optimizer": Optimizer.SPARSE_ADAMW,
            **changed,
        }
    )
    model = TwoTower(FeatureSpace.from_vocabulary_sizes(CATALOG, sizes), settings)
    model.compile(make_optimizer(settings))
    model.compute_loss(make_batch(0))
    model.optimizer.build(model.trainable_variables)
    return model


def make_batch(seed):
    """Returns rows whose ids are known before the vocabularies grow."""
    rng = np.random.default_rng(seed)
    items = rng.integers(2, ROWS[0], 8)
    features = {
        "user_id_xf": rng.integers(0, 11, 8),
        "history_item_ids_xf": rng.integers(0, ROWS[0], [8, 4]),
        "user_city_xf": rng.integers(0, 6, 8),
        "item_id_xf": items,
        "item_genres_xf": rng.integers(0, ROWS[1], [8, 2]),
        "item_title_xf": rng.integers(0, ROWS[2], [8, 3]),
        "item_price_xf": rng.normal(size=8).astype(np.float32),
    }
    row = {
        "item_id": np.array([f"item{item}" for item in items]),
        "reward": rng.uniform(0.5, 2, 8).astype(np.float32),
        "label": np.ones(8, np.float32),
    }
    return tf.nest.map_structure(tf.constant, (features, row))


def train(model, seeds):
    """Returns the loss of each step."""
    return [float(model.train_step(make_batch(seed))["loss"]) for seed in seeds]


def saved(folder, model):
    (folder / "graph").mkdir(exist_ok=True)
    (folder / "graph" / "marker").write_text("graph")
    checkpoint = folder / "model" / CHECKPOINT
    save_checkpoint(checkpoint, model, str(folder / "graph"), CATALOG, 700, None, COST)
    return checkpoint


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A checkpoint after four steps, what came of it by going on, and its variables."""
    model = make_model()
    train(model, range(4))
    checkpoint = saved(tmp_path_factory.mktemp("stopped"), model)
    state = arrays(model)
    return checkpoint, state, train(model, range(4, 7))


def arrays(model):
    return tf.nest.map_structure(
        lambda variable: variable.numpy(), training_state(model)
    )


def check_resumes(restore, stopped, sizes):
    """The checker: the next steps are those of the process that never stopped."""
    checkpoint, _, losses = stopped
    model = make_model(sizes, seed=99)
    restore(checkpoint, model)
    np.testing.assert_allclose(train(model, range(4, 7)), losses, rtol=2e-6)


@pytest.mark.parametrize("sizes", [SIZES, GROWN])
def test_training_resumes_as_if_it_had_not_stopped(stopped, sizes):
    check_resumes(restore, stopped, sizes)


def without_slots(checkpoint, model):
    restore(checkpoint, model)
    for of in training_state(model)["slots"].values():
        for slot in of:
            slot.assign(tf.zeros_like(slot))


def without_estimator(checkpoint, model):
    fresh = [variable.numpy() for variable in model.frequency.weights]
    restore(checkpoint, model)
    for variable, value in zip(model.frequency.weights, fresh, strict=True):
        variable.assign(value)


def rows_shifted(checkpoint, model):
    restore(checkpoint, model)
    table = model.item_embedding.table
    table.assign(tf.roll(table, 1, 0))


def without_weights(checkpoint, model):
    fresh = [variable.numpy() for variable in model.trainable_variables]
    restore(checkpoint, model)
    for variable, value in zip(model.trainable_variables, fresh, strict=True):
        variable.assign(value)


@pytest.mark.parametrize(
    "wrong", [without_slots, without_estimator, rows_shifted, without_weights]
)
def test_resume_checker_rejects(wrong, stopped):
    with pytest.raises(AssertionError):
        check_resumes(wrong, stopped, GROWN)


def test_adamw_resumes_too(tmp_path):
    model = make_model(optimizer=Optimizer.ADAMW, history_encoder="attention")
    train(model, range(3))
    checkpoint = saved(tmp_path, model)
    losses = train(model, range(3, 5))
    again = make_model(seed=99, optimizer=Optimizer.ADAMW, history_encoder="attention")
    restore(checkpoint, again)
    assert int(again.optimizer.iterations) == 3
    np.testing.assert_allclose(train(again, range(3, 5)), losses, rtol=2e-6)


def test_known_ids_keep_rows_and_slots_to_the_bit_and_new_ones_are_fresh(stopped):
    checkpoint, before, _ = stopped
    model = make_model(GROWN, seed=99)
    fresh = arrays(model)
    restore(checkpoint, model)
    after = arrays(model)
    table = [
        weight is model.item_embedding.table for weight in model.trainable_variables
    ]
    place = table.index(True)
    kinds = [("weights",), *(("slots", name) for name in ("first", "second", "count"))]
    for path in kinds:
        known, new, initial = (
            value_at(state, path)[place] for state in (before, after, fresh)
        )
        assert len(known) == sum(ROWS) and len(new) == sum(GROWN_ROWS)
        begins = zip(starts(ROWS), starts(GROWN_ROWS), ROWS, GROWN_ROWS, strict=True)
        for old_begin, new_begin, size, grown in begins:
            kept = new[new_begin : new_begin + size]
            is_kept = np.array_equal(kept, known[old_begin : old_begin + size])
            added = slice(new_begin + size, new_begin + grown)
            is_fresh = np.array_equal(new[added], initial[added])
            assert is_kept and is_fresh, path
            if path[0] == "slots":
                assert not new[added].any()
    assert before["frequency"]["step"] == after["frequency"]["step"] == 4
    for name, values in before["frequency"].items():
        np.testing.assert_array_equal(after["frequency"][name], values)
    assert before["frequency"]["gap"].std() > 0


def value_at(state, path):
    for key in path:
        state = state[key]
    return state


def starts(sizes):
    return np.cumsum([0, *sizes[:-1]])


def check_grown_rows(grown):
    """The checker: two fields, of which both grow, by hand."""
    known = np.array([[1.0], [2.0], [3.0]])
    fresh = -np.arange(1.0, 7.0)[:, np.newaxis]
    rows = grown(known, fresh, [2, 1], [3, 3])
    np.testing.assert_array_equal(rows[:, 0], [1, 2, -3, 3, -5, -6])
    np.testing.assert_array_equal(fresh[:, 0], [-1, -2, -3, -4, -5, -6])
    counts = grown(np.array([7.0]), np.zeros(2), [1], [2])
    np.testing.assert_array_equal(counts, [7, 0])


def at_the_front(known, fresh, before, now):
    rows = fresh.copy()
    rows[: len(known)] = known
    return rows


def shifted(known, fresh, before, now):
    return np.roll(grown_rows(known, fresh, before, now), 1, axis=0)


def new_are_zero(known, fresh, before, now):
    return grown_rows(known, np.zeros_like(fresh), before, now)


def test_grown_rows():
    check_grown_rows(grown_rows)


@pytest.mark.parametrize("wrong", [at_the_front, shifted, new_are_zero])
def test_grown_rows_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_grown_rows(wrong)


def test_vocabulary_that_shrank_is_an_error(stopped):
    with pytest.raises(ContinuationError, match="has lost values"):
        restore(stopped[0], make_model(SIZES | {"item_id": 11}))


def test_other_weights_are_an_error(stopped):
    for changed in ({"history_encoder": "gru"}, {"embedding_dim": 6}):
        model = make_model(**changed)
        with pytest.raises(ContinuationError, match="another version of Tandem"):
            restore(stopped[0], model)
    buckets = make_model(frequency_buckets=32)
    with pytest.raises(ContinuationError, match=r"the shape \(64,\) in the release"):
        restore(stopped[0], buckets)


def test_record_says_what_the_checkpoint_is_of(stopped):
    record = read_record(stopped[0])
    assert (record.trained_through, record.continued_from) == (700, None)
    assert record.cost == COST
    assert record.tables == {"item": ROWS, "user": [6]}
    assert RetrievalSettings.model_validate(record.settings) == make_model().settings
    assert FeatureCatalog.model_validate(record.catalog) == CATALOG
    assert (stopped[0] / "transform_graph" / "marker").read_text() == "graph"
    assert sorted(embeddings(make_model())) == ["item", "user"]


def test_base_is_found_where_it_was_written(stopped, tmp_path):
    write_base(tmp_path / "base", stopped[0], [5, 900])
    found = find_checkpoint(str(tmp_path / "base"))
    assert read_record(found) == read_record(stopped[0])
    assert read_span_starts(str(tmp_path / "base")) == [5, 900]
    write_base(tmp_path / "none", None, [5])
    assert find_checkpoint(str(tmp_path / "none")) is None
    assert find_checkpoint(None) is None


def continuable(checkpoint, catalog=CATALOG, until=701, **changed):
    settings = make_model().settings.model_copy(update=changed)
    check_continuable(checkpoint, settings.model_dump(mode="json"), catalog, until)


def test_what_only_steers_training_may_change(stopped):
    assert set(RetrievalSettings.model_fields) > FREE_SETTINGS
    continuable(stopped[0])
    continuable(stopped[0], learning_rate=0.1, temperature=0.2, dropout=0.5, seed=3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding_dim": 8}, "retrieval.embedding_dim: 8, but .* trained with 4"),
        ({"frequency_buckets": 65}, "retrieval.frequency_buckets: 65, but .* with 64"),
        ({"batch_size": 7}, "retrieval.batch_size: 7, but .* with 1024"),
        ({"optimizer": Optimizer.ADAMW}, "retrieval.optimizer: adamw, but"),
        (
            {"catalog": CATALOG.model_copy(update={"history_length": 5})},
            "features.history_length: 5, but",
        ),
        (
            {"catalog": CATALOG.model_copy(update={"item": CATALOG.item[1:]})},
            r"features.item: nothing here, \['genres'\] in the release",
        ),
        (
            {"catalog": CATALOG.model_copy(update={"item": CATALOG.item[::-1]})},
            "features.item: in another order",
        ),
        ({"until": 700}, "up to 700 .* begins at 700"),
    ],
)
def test_what_stands_against_a_continuation_is_named_with_the_mend(
    stopped, changed, message
):
    with pytest.raises(ContinuationError, match=message) as caught:
        continuable(stopped[0], **changed)
    assert str(caught.value).endswith("train anew with `--from-scratch`.")


def test_setting_of_another_version_is_named(stopped, tmp_path):
    checkpoint = tmp_path / CHECKPOINT
    checkpoint.mkdir()
    record = json.loads((stopped[0] / "record.json").read_text())
    record["settings"]["of_yesterday"] = True
    (checkpoint / "record.json").write_text(json.dumps(record))
    with pytest.raises(ContinuationError, match="retrieval.of_yesterday: None, but"):
        continuable(checkpoint)
