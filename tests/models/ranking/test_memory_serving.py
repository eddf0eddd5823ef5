"""Memories written by raw events, beside the same model over transformed histories."""

import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing import TransformGraph, raw_features
from models.ranking.hpmn import HPMN, MEMORY_FOLDER
from models.ranking.hpmn_settings import HPMNSettings
from models.ranking.memory_serving import MemoryServing
from models.ranking.settings import RankingSettings
from models.ranking.trainer import RankingModule, run_fn
from schemas.features import Side
from tests.models import transform_world as world

SETTINGS = HPMNSettings(
    embedding_dim=4,
    periods=(1, 2, 4, 8),
    memory_units=6,
    hops=2,
    attention_hidden=(5,),
    hidden=(8,),
    dropout=0.0,
)
NAN = np.nan
# Items as the catalogue has them: genres, title and price.
ITEMS = {
    "a": (["x", "y"], "The Green Mile", 1.0),
    "b": (["x"], "Alien", 2.0),
    "c": ([], "", NAN),
    "d": (["z"], "Se7en!", 6.0),
    "": ([], "", NAN),
}
USERS = {
    "user_id": tf.constant(["u", "v", "stranger"]),
    "user_age": tf.constant([20.0, NAN, 31.0]),
    "user_city": tf.constant(["rome", "oslo", ""]),
    "user_club": tf.constant(["", "", "chess"]),
    "context_device": tf.constant(["phone", "", "tv"]),
    "context_delay": tf.constant([NAN, 2.0, 0.5]),
}


def item_inputs(ids):
    """Returns the raw inputs of items, in the shape of their ids: [B] or [B, C]."""
    ids = np.array(ids, object)
    genres, titles, prices = zip(*(ITEMS[item] for item in ids.ravel()), strict=True)
    genres = np.array([[*some, "", ""][:2] for some in genres], object)
    return {
        "item_id": tf.constant(ids, tf.string),
        "item_genres": tf.constant(genres.reshape(*ids.shape, 2), tf.string),
        "item_title": tf.constant(np.reshape(titles, ids.shape), tf.string),
        "item_price": tf.constant(np.reshape(prices, ids.shape), tf.float32),
    }


@pytest.fixture(scope="module")
def transform(transform_uri):
    return TransformGraph(transform_uri, world.CATALOG)


def transformed_items(transform, ids):
    return transform(raw_features(item_inputs(ids), world.CATALOG, Side.ITEM))


@pytest.fixture(scope="module")
def model(transform):
    known = transformed_items(transform, ["a", "b", "c", "d"])
    model = HPMN(transform.space, SETTINGS, known)
    query = transformed_query(transform, [["a"], ["b"], []])
    model({**query, **transformed_items(transform, ["a", "b", "c"])})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(scale=0.5, size=variable.shape))
    return model


def transformed_query(transform, histories, users=USERS):
    """Returns the query's tensors, with histories of any length."""
    no_history = {"history_item_ids": tf.zeros([len(histories), 0], tf.string)}
    inputs = {**users, **no_history}
    query = transform(raw_features(inputs, world.CATALOG, Side.USER, Side.CONTEXT))
    width = max(map(len, histories), default=0)
    padded = [[*[""] * (width - len(some)), *some] for some in histories]
    ids = np.zeros([len(histories), width], np.int64)
    if width:
        flat = transformed_items(transform, np.ravel(padded))["item_id_xf"]
        ids = tf.reshape(flat, ids.shape)
    return {**query, "history_item_ids_xf": tf.constant(ids)}


HISTORIES = [list("abacabadabb"), list("dcd"), []]
CANDIDATES = [["a", "c"], ["d", "b"], ["b", ""]]


def written(serving, histories):
    """Returns memory and step after the events, one call for all users' next."""
    shape = [len(histories), len(SETTINGS.periods), SETTINGS.memory_units]
    state = {"memory": tf.zeros(shape), "step": tf.zeros([len(histories)], tf.int64)}
    for place in range(max(map(len, histories))):
        ids = [some[place] if place < len(some) else "" for some in histories]
        state = serving.update_memory({**state, **item_inputs(ids)})
    return state


# ------------------------------------------------------------------ writing


def check_written(serving_class, model, transform):
    """The checker of `update_memory`."""
    state = written(serving_class(model, world.CATALOG, transform), HISTORIES)
    query = transformed_query(transform, HISTORIES)
    expected = model.read_query(query, training=False)["memory"]
    np.testing.assert_allclose(state["memory"], expected, atol=1e-5)
    np.testing.assert_array_equal(state["step"], [11, 3, 0])


class WritesPadding(MemoryServing):
    def update_memory(self, inputs):
        ids = tf.where(inputs["item_id"] == "", "a", inputs["item_id"])
        return super().update_memory({**inputs, "item_id": ids})


class ForgetsTheFeatures(MemoryServing):
    def update_memory(self, inputs):
        bare = tf.fill(tf.shape(inputs["item_price"]), NAN)
        return super().update_memory({**inputs, "item_price": bare})


class CountsCallsOfTheBatch(MemoryServing):
    def update_memory(self, inputs):
        state = super().update_memory(inputs)
        return {**state, "step": inputs["step"] + 1}


def test_memory_written_by_events_equals_that_of_the_history(model, transform):
    check_written(MemoryServing, model, transform)


@pytest.mark.parametrize(
    "wrong", [WritesPadding, ForgetsTheFeatures, CountsCallsOfTheBatch]
)
def test_written_checker_rejects(wrong, model, transform):
    with pytest.raises(AssertionError):
        check_written(wrong, model, transform)


# ------------------------------------------------------------------ scoring


def check_score(serving_class, model, transform):
    """The checker of `score`."""
    query = transformed_query(transform, HISTORIES)
    memory = model.read_query(query, training=False)["memory"]
    serving = serving_class(model, world.CATALOG, transform)
    found = serving.score({"memory": memory, **USERS, **item_inputs(CANDIDATES)})
    flat = transformed_items(transform, np.ravel(CANDIDATES))
    candidates = {
        name: tf.reshape(values, [3, 2, *values.shape[1:]])
        for name, values in flat.items()
    }
    expected = model.score_candidates(query, candidates).numpy()
    assert np.abs(np.diff(expected)).min() > 0.01
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["scores"], 1 / (1 + np.exp(-expected)), rtol=1e-4, atol=1e-5
    )


class SwapsUsersAndCandidates(MemoryServing):
    def _transformed_candidates(self, inputs):
        candidates = super()._transformed_candidates(inputs)
        return {name: values[:, ::-1] for name, values in candidates.items()}


class ReadsNoMemory(MemoryServing):
    def score(self, inputs):
        return super().score({**inputs, "memory": 0 * inputs["memory"]})


class LosesTheUser(MemoryServing):
    def score(self, inputs):
        nobody = tf.fill(tf.shape(inputs["user_id"]), "")
        return super().score({**inputs, "user_id": nobody})


def test_score_of_a_memory_equals_that_of_the_history(model, transform):
    check_score(MemoryServing, model, transform)


@pytest.mark.parametrize(
    "wrong", [SwapsUsersAndCandidates, ReadsNoMemory, LosesTheUser]
)
def test_score_checker_rejects(wrong, model, transform):
    with pytest.raises(AssertionError):
        check_score(wrong, model, transform)


# ------------------------------------------------------------------ signatures


def test_no_signature_grows_with_a_user_s_history(model, transform):
    serving = MemoryServing(model, world.CATALOG, transform)
    found = {
        name: {
            key: spec.shape.as_list()
            for key, spec in function.structured_input_signature[0][0].items()
        }
        for name, function in serving.signatures().items()
    }
    assert found == {
        "update_memory": {
            "memory": [None, 4, 6],
            "step": [None],
            "item_id": [None],
            "item_genres": [None, None],
            "item_title": [None],
            "item_price": [None],
        },
        "score": {
            "memory": [None, 4, 6],
            **{key: [None] for key in USERS},
            "item_id": [None, None],
            "item_genres": [None, None, None],
            "item_title": [None, None],
            "item_price": [None, None],
        },
    }


def test_ranking_serves_the_attention_over_layers(model, transform):
    examples = tf.constant([world.serialized(record) for record in world.records()])
    signatures = RankingModule(model, world.CATALOG, transform).signatures()
    served = signatures["layer_attention"](examples)["weights"]
    rows = transform(tf.io.parse_example(examples, transform.raw_spec))
    _, attention = model.read_with_attention(rows)
    np.testing.assert_allclose(served, attention.numpy().mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(served, axis=1), np.ones(10), rtol=1e-5)
    np.testing.assert_allclose(
        signatures["logits"](examples)["logits"], model(rows), rtol=1e-4, atol=1e-5
    )


def test_nobody_and_nothing_get_an_answer(model, transform):
    signatures = MemoryServing(model, world.CATALOG, transform).signatures()
    for users, candidates in ((0, 2), (3, 0)):
        ids = tf.fill([users, candidates], "a")
        answer = signatures["score"](
            {
                "memory": tf.zeros([users, 4, 6]),
                **{key: value[:users] for key, value in USERS.items()},
                "item_id": ids,
                "item_genres": tf.zeros([users, candidates, 0], tf.string),
                "item_title": ids,
                "item_price": tf.zeros([users, candidates]),
            }
        )
        assert answer["logits"].shape == (users, candidates)


# 10,000 updates in a process that has the saved model alone.
LIFETIME = """
import sys
import numpy as np
import tensorflow as tf
saved = tf.saved_model.load(sys.argv[1])
update, score = (saved.signatures[name] for name in ("update_memory", "score"))
with np.load(sys.argv[1] + "/in.npz", allow_pickle=True) as arrays:
    parts = {}
    for name in arrays:
        side, key = name.split("/")
        value = arrays[name]
        value = value.astype(bytes) if value.dtype == object else value
        parts.setdefault(side, {})[key] = tf.constant(value)

places = parts["places"]["items"]

def live(number, memory, step):
    place = places[number]
    item = {key: value[place:place + 1] for key, value in parts["items"].items()}
    state = update(memory=memory, step=step, **item)
    return number + 1, tf.ensure_shape(state["memory"], [1, 4, 6]), state["step"][:1]

# A graph's loop: by one call at a time it takes a minute.
start = [tf.constant(0), tf.zeros([1, 4, 6]), tf.zeros([1], tf.int64)]
run = tf.function(
    lambda: tf.while_loop(
        lambda number, *_: number < len(places),
        live,
        start,
        shape_invariants=[tf.TensorShape([]), start[1].shape, tf.TensorShape([None])],
    ),
    autograph=False,
)
_, memory, step = run()
state = {"memory": memory, "step": step}
answer = score(memory=state["memory"], **parts["users"], **parts["candidates"])
np.savez(sys.argv[1] + "/out.npz", logits=answer["logits"], **state)
"""


@pytest.mark.component
def test_score_after_ten_thousand_events_equals_the_batch_form(
    model, transform, tmp_path
):
    (companion,) = model.companions(world.CATALOG, transform).values()
    tf.saved_model.save(companion, str(tmp_path), signatures=companion.signatures())
    names = ["a", "b", "c", "d"]
    places = np.random.default_rng(5).integers(0, 4, 10_000)
    users = {key: value[:1] for key, value in USERS.items()}
    parts = {
        "users": users,
        "items": item_inputs(names),
        "candidates": item_inputs([["a", "b", "d"]]),
        "places": {"items": tf.constant(places)},
    }
    arrays = {
        f"{side}/{key}": value.numpy()
        for side, tensors in parts.items()
        for key, value in tensors.items()
    }
    np.savez(tmp_path / "in.npz", **arrays)
    subprocess.run(
        [sys.executable, "-c", LIFETIME, str(tmp_path)],
        check=True,
        timeout=300,
        cwd=tmp_path,
    )
    history = [[names[place] for place in places]]
    query = transformed_query(transform, history, users)
    flat = transformed_items(transform, ["a", "b", "d"])
    candidates = {name: values[tf.newaxis] for name, values in flat.items()}
    with np.load(tmp_path / "out.npz") as found:
        assert found["step"] == [10_000]
        np.testing.assert_allclose(
            found["memory"],
            model.read_query(query, training=False)["memory"],
            atol=1e-5,
        )
        np.testing.assert_allclose(
            found["logits"],
            model.score_candidates(query, candidates),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.component
def test_trainer_saves_the_memory_s_signatures_beside_the_ranker(
    transform_uri, tmp_path
):
    """Rows by `ranking`, whose histories hold 3 events, and by memories agree."""
    records = world.records()
    file = world.write_split(tmp_path / "rows.gz", records)
    hpmn = {"embedding_dim": 4, "periods": [1, 2], "memory_units": 6, "hidden": [8]}
    settings = {"model": "hpmn", "hpmn": hpmn, "batch_size": 5, "max_epochs": 2}
    config = RankingSettings.model_validate(settings).model_dump_json()
    serving_dir = tmp_path / "model" / "Format-Serving"
    run_fn(
        types.SimpleNamespace(
            train_files=[file],
            eval_files=[file],
            transform_output=transform_uri,
            serving_model_dir=str(serving_dir),
            model_run_dir=str(tmp_path / "run"),
            base_model=None,
            custom_config={
                "catalog": world.CATALOG.model_dump_json(),
                "settings": config,
            },
        )
    )
    ranking = tf.saved_model.load(str(serving_dir)).signatures
    # The first rows of a and of d have the items' features as the table has them.
    chosen = [records[0], records[3], records[9]]
    examples = tf.constant([world.serialized(record) for record in chosen])
    expected = ranking["logits"](examples)["logits"]
    assert ranking["layer_attention"](examples)["weights"].shape == (3, 2)

    memory = tf.saved_model.load(str(tmp_path / "model" / MEMORY_FOLDER)).signatures
    state = {"memory": tf.zeros([3, 2, 6]), "step": tf.zeros([3], tf.int64)}
    histories = [record["history_item_ids"] for record in chosen]
    for place in range(3):
        ids = [some[place] if place < len(some) else "" for some in histories]
        state = memory["update_memory"](**state, **item_inputs(ids))
    users = {
        "user_id": tf.constant(["u", "u", "w"]),
        "user_age": tf.constant([20.0, 20.0, NAN]),
        "user_city": tf.constant(["rome", "rome", ""]),
        "user_club": tf.constant(["", "", ""]),
        "context_device": tf.constant(["phone", "tv", "phone"]),
        "context_delay": tf.constant([NAN, NAN, NAN]),
    }
    answer = memory["score"](
        memory=state["memory"], **users, **item_inputs([["a"], ["d"], ["b"]])
    )
    np.testing.assert_allclose(answer["logits"][:, 0], expected, rtol=1e-4, atol=1e-5)
