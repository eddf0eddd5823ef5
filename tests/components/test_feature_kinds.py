"""Vectors, weighted categories and seed items, from a log to a served answer."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.build_index import ItemVectors, run_in_batches
from components.candidate_selection_settings import CandidateSettings
from components.export_recommender import transformed_catalogue
from components.item_facts import item_facts
from components.offline_recommendation import OfflineModels, recommend_offline
from components.read_examples import read_serialized, split_files
from components.recorded_requests import requests_of_test_users
from models.index import ExactIndex
from models.policy_settings import PolicySettings
from models.preprocessing import TransformGraph
from models.ranking.deepfm import DeepFM
from models.ranking.deepfm_settings import DeepFMSettings
from models.ranking.trainer import RankingModule
from models.recommender import Recommender
from models.retrieval.settings import HistoryEncoder, RetrievalSettings
from models.retrieval.trainer import RetrievalModule
from models.retrieval.two_tower import TwoTower
from serving.client import PredictError, RecommendationClient, feature_array
from serving.release_tables import ReleaseTables
from serving.server import ModelServer
from tests.components import feature_kinds_world as world
from tests.components.ingestion_oracle import decoded

pytestmark = pytest.mark.component

NUM_CANDIDATES = 5
POLICY = PolicySettings(caps={"cast": 3})  # of six items with Ann
EVENTS = {event["event_id"]: event for event in world.EVENTS}
ITEMS = {item["item_id"]: item for item in world.ITEMS}
USERS = {user["user_id"]: user for user in world.USERS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Returns where the log was ingested and its transform analysed."""
    path = tmp_path_factory.mktemp("kinds")
    process = subprocess.run(
        [sys.executable, "-m", world.__name__, str(path)],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return path


@pytest.fixture(scope="module")
def graph(folder):
    return TransformGraph(str(folder / "transform"), world.CATALOG)


def examples_of(folder, split):
    return read_serialized(split_files(str(folder / "impressions"), split))


def check_rows(examples):
    """The checker: each row holds the log's own values, and nothing where it has none."""
    columns = {
        "user": (USERS, "user_id", ["taste"]),
        "item": (ITEMS, "item_id", ["mood", "cast", "minutes"]),
        "context": (EVENTS, "event_id", ["seed", "gaze", "topics", "interest"]),
    }
    assert len(examples) == 43  # the oldest 48 of 60, less the 5 latest of these
    for example in examples:
        row = decoded(example)
        for side, (table, key, names) in columns.items():
            record = table[row[key][0]]
            for name in names:
                value = record[name]
                value = [value] if isinstance(value, str) else value or None
                assert row.get(f"{side}_{name}") == value


def _edited(example, edit):
    parsed = tf.train.Example.FromString(example)
    edit(parsed.features.feature)
    return parsed.SerializeToString()


def _zeros_for_nothing(feature):
    if "user_taste" not in feature:
        feature["user_taste"].float_list.value.extend([0.0, 0.0])


def _weights_of_zero_left_out(feature):
    kept = [w for w in feature["item_minutes"].float_list.value if w]
    feature["item_minutes"].float_list.ClearField("value")
    feature["item_minutes"].float_list.value.extend(kept)


def test_rows_hold_what_the_log_holds(folder):
    check_rows(examples_of(folder, "train"))


@pytest.mark.parametrize("wrong", [_zeros_for_nothing, _weights_of_zero_left_out])
def test_row_checker_rejects(folder, wrong):
    with pytest.raises(AssertionError):
        check_rows(
            [_edited(example, wrong) for example in examples_of(folder, "train")]
        )


def _standardised(vectors):
    """By the formula, of the rows that have a vector; zeros for the others."""
    there = np.array([vector for vector in vectors if vector])
    mean, deviation = there.mean(axis=0), there.std(axis=0)
    return [
        (np.array(vector) - mean) / deviation if vector else 0 * mean
        for vector in vectors
    ]


def check_transformed(columns, events):
    """The checker: of the train rows, by the log's own values."""
    items = [ITEMS[event["item_id"]] for event in events]
    vectors = {
        "user_taste_xf": [USERS[event["user_id"]]["taste"] for event in events],
        "item_mood_xf": [item["mood"] for item in items],
        "context_gaze_xf": [event["gaze"] for event in events],
    }
    for name, values in vectors.items():
        np.testing.assert_allclose(
            columns[name], _standardised(values), rtol=1e-4, atol=1e-5, err_msg=name
        )
    # 30 and 10 minutes of 40; the third actor has none.
    parts = {0: [0, 0, 0], 1: [1, 0, 0], 2: [0.75, 0.25, 0], 3: [0.75, 0.25, 0]}
    expected = [parts[len(item["cast"])] for item in items]
    np.testing.assert_allclose(columns["item_minutes_xf"], expected, rtol=1e-6)
    parts = {"e07": [0.5, 0.5], "e09": [0, 0]}
    expected = [
        parts.get(e["event_id"], [[0, 0], [1, 0], [0.25, 0.75]][len(e["topics"])])
        for e in events
    ]
    np.testing.assert_allclose(columns["context_interest_xf"], expected, rtol=1e-6)
    # A seed has the id of the item; the buckets 1 to 3 hold those never met.
    ids = dict(
        zip([e["item_id"] for e in events], columns["item_id_xf"].tolist(), strict=True)
    )
    for event, seed in zip(events, columns["context_seed_xf"].tolist(), strict=True):
        if event["seed"] in ids:
            assert seed == ids[event["seed"]]
        else:
            assert seed in ([1, 2, 3] if event["seed"] else [0])


@pytest.fixture(scope="module")
def train_rows(folder, graph):
    examples = examples_of(folder, "train")
    columns = graph(tf.io.parse_example(examples, graph.raw_spec))
    events = [EVENTS[decoded(example)["event_id"][0]] for example in examples]
    return {name: values.numpy() for name, values in columns.items()}, events


WRONG_COLUMNS = {
    "vectors as they came": {"item_mood_xf": lambda moods: 3.0 * moods + 1.0},
    "one variance for all components": {
        "item_mood_xf": lambda moods: moods * [0.5, 2.0, 1.0]
    },
    "weights not of a row's total": {"item_minutes_xf": lambda weights: 40 * weights},
    "values without weights left out": {
        "context_interest_xf": lambda weights: np.where(weights == 0.5, 0, weights)
    },
    "seeds in a space of their own": {"context_seed_xf": lambda ids: ids[::-1]},
    "no seed is an item": {"context_seed_xf": lambda ids: np.maximum(ids, 1)},
}


def test_transform_of_the_train_rows(train_rows):
    check_transformed(*train_rows)


@pytest.mark.parametrize("edits", WRONG_COLUMNS.values(), ids=list(WRONG_COLUMNS))
def test_transform_checker_rejects(train_rows, edits):
    columns, events = train_rows
    wrong = {name: edit(columns[name]) for name, edit in edits.items()}
    with pytest.raises(AssertionError):
        check_transformed(columns | wrong, events)


# --- Serving ----------------------------------------------------------------------------


class Release:
    """Untrained stages, the slow path over them, and the fused graph on disk."""

    def __init__(self, folder, graph):
        tf.keras.utils.set_random_seed(7)
        catalog, space = world.CATALOG, graph.space
        encoder = HistoryEncoder.MEAN  # the cheapest to trace
        towers = TwoTower(
            space, RetrievalSettings(embedding_dim=8, history_encoder=encoder)
        )
        ranker = DeepFM(space, DeepFMSettings(embedding_dim=4, hidden=(8,)))
        self.retrieval = RetrievalModule(towers, catalog, graph)
        self.ranking = RankingModule(ranker, catalog, graph)
        embed, rank = self.retrieval.signatures(), self.ranking.signatures()
        # What starts at 0 or very near it would say nothing of its feature.
        rng = np.random.default_rng(1)
        ranker.set_weights([rng.normal(size=w.shape) for w in ranker.get_weights()])
        items = folder / "catalog"
        item_examples = read_serialized([str(items / "items.tfrecord.gz")])
        vectors = run_in_batches(
            embed["candidate_examples"], item_examples, "embeddings"
        )
        ids = pq.read_table(items / "items.parquet")["item_id"].to_pylist()
        self.offline = OfflineModels(
            embed["query_examples"],
            rank["logits"],
            ItemVectors(ids, vectors),
            item_examples,
        )
        index = ExactIndex(vectors)
        fused = Recommender(
            catalog=catalog,
            item_ids=ids,
            transform=graph,
            embed_query=self.retrieval.embed_query,
            score_candidates=self.ranking.score_candidates,
            candidates=transformed_catalogue(str(items), graph, catalog),
            index=index,
            exact_index=index,
            policy=POLICY,
            num_candidates=NUM_CANDIDATES,
            default_k=3,
            facts=item_facts(str(items), CandidateSettings(), POLICY, vectors),
        )
        fused.parts = (graph, self.retrieval, self.ranking)
        self.root = folder / "serving"
        path = str(self.root / "recommender" / "1")
        tf.saved_model.save(fused, path, signatures=fused.signatures())


@pytest.fixture(scope="module")
def release(folder, graph):
    return Release(folder, graph)


@pytest.fixture(scope="module")
def client(release):
    with ModelServer(release.root, port=0, poll_interval_s=0) as server:
        with RecommendationClient(server.target, timeout_s=60) as connected:
            yield connected


@pytest.fixture(scope="module")
def requests(folder, graph):
    uri = str(folder / "impressions")
    return requests_of_test_users(uri, graph.raw_spec, world.CATALOG, 10)


def check_answers(answer, release, requests):
    """The checker: items and scores are those of the stages one after the other."""
    assert len(requests) == world.NUM_USERS
    for request in requests:
        arguments = (4, 1, NUM_CANDIDATES, POLICY, world.CATALOG)
        expected = recommend_offline(
            release.offline, request.example, request.history, (), *arguments
        )
        seen = answer(request.to_recommend(k=4, seed=1))
        items = [item.decode() for item in seen["item_ids"][0]]
        assert items == [*expected.item_ids, *[""] * (4 - len(expected.item_ids))]
        scores = seen["scores"][0][: len(expected.scores)]
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-4)


def _served(client):
    return lambda inputs: client.predict("recommender", "recommend", inputs)[0]


def test_served_answers_equal_the_stages_one_by_one(client, release, requests):
    check_answers(_served(client), release, requests)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("user_taste", lambda taste: -taste),
        ("user_taste", lambda taste: taste[:, ::-1]),
        ("context_gaze", lambda gaze: np.full_like(gaze, np.nan)),
        ("context_interest", lambda weights: np.ones_like(weights)),
        ("context_topics", lambda topics: topics[:, ::-1]),
        ("context_seed", lambda seed: np.array([b""], object)),
    ],
)
def test_answer_checker_rejects(client, release, requests, name, change):
    served = _served(client)
    with pytest.raises(AssertionError):
        check_answers(
            lambda inputs: served(inputs | {name: change(inputs[name])}),
            release,
            requests,
        )


def test_a_client_sends_what_the_profile_holds(folder, client):
    """A profile's features go into a request as they are, with those of the moment."""
    tables = ReleaseTables(1, folder)
    known = tables.profile("u1")
    assert known.features == {"user_taste": USERS["u1"]["taste"]}
    assert tables.profile("u2").features == {}

    def scores(**features):
        answer = client.recommend("u1", features=features, k=8, seed=1)
        return dict(zip(answer.item_ids, answer.scores, strict=True))

    everything = {
        **known.features,
        "context_seed": "i5",
        "context_topics": ["war", "love"],
        "context_interest": [1.0, 3.0],
    }
    seen = scores(**everything)
    assert "i5" not in seen  # more like it, and not itself
    # All without Ann, and as many with her as the cap allows.
    assert {"i0", "i4"} < set(seen) < set(ITEMS) and len(seen) == 5
    # Weights count by their shares; equal ones are none; a weight of 0 is no value.
    assert (
        scores(
            **everything,
        )
        == seen
    )
    for same, other in (
        ({"context_interest": [0.5, 1.5]}, {"context_interest": [3.0, 1.0]}),
        ({"context_interest": [1.0, 3.0, 9.0]}, {"context_interest": [2.0, 2.0]}),
        ({"user_taste": tuple(known.features["user_taste"])}, {"user_taste": None}),
        ({"context_seed": "i5"}, {"context_seed": "i6"}),
    ):
        assert scores(**everything | same) == pytest.approx(seen, rel=1e-5)
        assert scores(**everything | other) != pytest.approx(seen, rel=1e-5)
    alike = scores(**everything | {"context_interest": [2.0, 2.0]})
    assert scores(**everything | {"context_interest": None}) == pytest.approx(alike)
    first = scores(**everything | {"context_interest": [1.0, 0.0]})
    alone = {"context_topics": ["war"], "context_interest": [7.0]}
    assert scores(**everything | alone) == pytest.approx(first, rel=1e-5)


def test_a_vector_with_a_gap_is_missing_and_one_of_another_size_is_refused(client):
    def scores(taste):
        answer = client.recommend("u1", features={"user_taste": taste}, k=8, seed=1)
        return dict(zip(answer.item_ids, answer.scores, strict=True))

    missing = scores(None)
    assert scores([float("nan"), 1.0]) == pytest.approx(missing)
    assert scores([1.0, 1.0]) != pytest.approx(missing)
    with pytest.raises(ValueError, match="`user_taste`.*a list of 2 numbers"):
        scores([1.0])
    inputs = {
        name: feature_array(name, None, info)
        for name, info in client.signature("recommender").inputs.items()
    }
    inputs |= {"k": np.array(3, np.int32), "user_taste": np.zeros([1, 3], np.float32)}
    with pytest.raises(PredictError, match=r"user_taste.*Expected shape \[\?,2\]"):
        client.predict("recommender", "recommend", inputs)
