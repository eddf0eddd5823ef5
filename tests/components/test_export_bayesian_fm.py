"""A Bayesian FM with Thompson sampling, exported: what another process gets from it."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from components.build_index import ItemVectors
from components.catalog_files import ITEMS_EXAMPLES
from components.export_recommender import (
    ServedRanker,
    save_module,
    transformed_catalogue,
)
from components.offline_recommendation import OfflineModels, recommend_offline
from components.recorded_requests import requests_of
from models.bandit.bayesian_fm import BayesianFM
from models.bandit.bayesian_fm_towers import TowerTransform
from models.index import ExactIndex
from models.policy_settings import PolicySettings
from models.preprocessing import TransformGraph
from models.ranking.bayesian_fm_settings import BayesianFMSettings
from models.ranking.trainer import RankingModule
from models.recommender import Recommender
from models.signatures import QUERY_SIDES, example_spec, transformed_signature
from schemas.features import Side
from tests.models.conftest import transform_uri  # noqa: F401  (a fixture)
from tests.models.transform_world import CATALOG, records, serialized

pytestmark = pytest.mark.component
K, NUM_SEEDS, NUM_REPLAYED = 3, 1500, 12
# The first four are in the vocabulary; the others are new arms, of hash buckets.
ITEM_IDS = ["a", "b", "c", "d", "new1", "new2", "new3"]
POLICIES = {
    draw: PolicySettings(name="thompson", draw=draw, alpha=0.7, propensity_samples=16)
    for draw in ("parameters", "logit")
}
# Loads a model and answers requests, as a server does that knows nothing of this code.
ANSWER = """
import sys
import numpy as np
import tensorflow as tf
folder, asked, answered = sys.argv[1:]
signatures = tf.saved_model.load(folder).signatures
inputs = dict(np.load(asked, allow_pickle=True))
slates = inputs.pop("slate_item_ids")
inputs = {name: tf.constant(values) for name, values in inputs.items()}
answer = signatures["recommend"](**inputs)
given = signatures["propensities"](**inputs, slate_item_ids=tf.constant(slates))
np.savez(
    answered,
    **{name: values.numpy() for name, values in answer.items()},
    given=given["propensities"].numpy(),
)
"""


class Towers(tf.Module):
    """Stands where `RetrievalModule` does: vectors of four numbers by id."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform
        space = transform.space
        self.users = tf.Variable(unit_vectors(space.user_id.num_ids, seed=1))
        self.items = tf.Variable(unit_vectors(space.item_id.num_ids, seed=2))
        self.embed_query = tf.function(
            lambda query: tf.gather(self.users, query["user_id_xf"]),
            input_signature=[transformed_signature(space, space.query_names)],
        )
        self.embed_candidates = tf.function(
            lambda items: tf.gather(self.items, items["item_id_xf"]),
            input_signature=[transformed_signature(space, space.candidate_names)],
        )

    def signatures(self):
        return {
            "query_examples": self._of_examples(QUERY_SIDES, self.embed_query),
            "candidate_examples": self._of_examples([Side.ITEM], self.embed_candidates),
        }

    def _of_examples(self, sides, embed):
        spec = example_spec(self.transform.raw_spec, CATALOG, *sides)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def signature(examples):
            raw = tf.io.parse_example(examples, spec)
            return {"embeddings": embed(self.transform(raw))}

        return signature.get_concrete_function()


def unit_vectors(size, seed):
    vectors = np.random.default_rng(seed).normal(size=[size, 4]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def retrieval(transform_uri, tmp_path_factory):  # noqa: F811
    towers = Towers(TransformGraph(transform_uri, CATALOG))
    folder = str(tmp_path_factory.mktemp("retrieval"))
    tf.saved_model.save(towers, folder, signatures=towers.signatures())
    return tf.saved_model.load(folder)


def loaded_ranking(transform, folder):
    """Returns the ranker as its trainer saves it: a posterior as after some learning."""
    model = BayesianFM(transform.space, BayesianFMSettings(embedding_dim=3))
    rng = np.random.default_rng(0)
    model.means.assign(0.4 * rng.normal(size=model.means.shape))
    model.precisions.assign(rng.uniform(2.0, 30.0, size=model.precisions.shape))
    module = RankingModule(model, CATALOG, transform)
    tf.saved_model.save(module, str(folder), signatures=module.signatures())
    return tf.saved_model.load(str(folder))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(folder / ITEMS_EXAMPLES), options) as writer:
        for example in item_examples():
            writer.write(example)
    return str(folder)


def item_examples():
    return [
        serialized({"item_id": item, "item_genres": ["x", "z"][: number % 3]})
        for number, item in enumerate(ITEM_IDS)
    ]


@pytest.fixture(
    scope="module",
    params=[("parameters", False), ("logit", True)],
    ids=["parameters", "logit, with the towers' vectors"],
)
def served(request, retrieval, catalogue, transform_uri, tmp_path_factory):  # noqa: F811
    """What a fresh process answers two users, each by many seeds."""
    draw, reads_towers = request.param
    policy, folder = POLICIES[draw], tmp_path_factory.mktemp(draw)
    transform = TransformGraph(transform_uri, CATALOG)
    ranking = loaded_ranking(
        TowerTransform(transform, retrieval) if reads_towers else transform,
        folder / "ranking",
    )
    embed = retrieval.signatures["candidate_examples"]
    vectors = ItemVectors(
        ITEM_IDS, embed(tf.constant(item_examples()))["embeddings"].numpy()
    )
    ranker = ServedRanker.of(ranking, retrieval, vectors, policy)
    assert bool(ranker.candidates) == reads_towers
    index = ExactIndex(vectors.embeddings)
    module = Recommender(
        catalog=CATALOG,
        item_ids=ITEM_IDS,
        transform=transform,
        embed_query=retrieval.embed_query,
        score_candidates=ranker.score_candidates,
        candidates=transformed_catalogue(catalogue, transform, CATALOG)
        | ranker.candidates,
        index=index,
        exact_index=index,
        policy=policy,
        num_candidates=len(ITEM_IDS),
        default_k=K,
        beliefs=ranker.beliefs,
    )
    module.parts = (transform, retrieval, ranker.part)
    save_module(module, module.signatures(), str(folder), "recommender")
    users = requests_of(
        [serialized(records()[row]) for row in (0, 7)], transform.raw_spec, CATALOG
    )
    np.savez(folder / "asked.npz", **asked(users))
    files = [str(folder / name) for name in ("recommender", "asked.npz", "out.npz")]
    process = subprocess.run(
        [sys.executable, "-c", ANSWER, *files], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    answers = dict(np.load(files[2], allow_pickle=True))
    answers["asked"] = np.arange(2 * NUM_SEEDS) % len(ITEM_IDS)
    offline = OfflineModels(
        retrieval.signatures["query_examples"],
        ranking.signatures["logits"],
        vectors,
        np.array(item_examples(), object),
        ranking.signatures["posterior"],
    )
    return SimpleNamespace(policy=policy, users=users, answers=answers, offline=offline)


def asked(users):
    """Returns the requests: each user's by every seed, and each item at the top."""
    width = max(user.inputs["history_item_ids"].shape[1] for user in users)
    rows = {}
    for name in users[0].inputs:
        parts = [user.inputs[name] for user in users]
        if name == "history_item_ids":
            parts = [
                np.pad(p, [(0, 0), (0, width - p.shape[1])], constant_values=b"")
                for p in parts
            ]
        rows[name] = np.repeat(np.concatenate(parts), NUM_SEEDS, axis=0)
    num_rows = NUM_SEEDS * len(users)
    tops = np.resize(np.array([item.encode() for item in ITEM_IDS], object), num_rows)
    return rows | {
        "exclude_item_ids": np.zeros([num_rows, 0], object),
        "k": np.int32(K),
        "seed": np.arange(num_rows, dtype=np.int64),
        "slate_item_ids": tops[:, np.newaxis],
    }


def test_answers_are_those_of_the_offline_path(served):
    answers = served.answers
    slates = set()
    for number, user in enumerate(served.users):
        for row in range(NUM_SEEDS * number, NUM_SEEDS * number + NUM_REPLAYED):
            expected = recommend_offline(
                served.offline,
                user.example,
                user.history,
                [],
                K,
                row,
                len(ITEM_IDS),
                served.policy,
                CATALOG,
            )
            shown = [item.decode() for item in answers["item_ids"][row]]
            assert shown == expected.item_ids
            slates.add(tuple(shown))
            for name in ("scores", "propensities"):
                np.testing.assert_allclose(
                    answers[name][row], getattr(expected, name), rtol=2e-3, atol=1e-5
                )
    assert len(slates) > NUM_REPLAYED / 2  # it explores


def check_top(chances, served):
    """The share of seeds that show an item at the top is the propensity it has there.

    Args:
        chances: (answers of a user, item's number) -> [n] its propensities at the top,
            by as many seeds.
    """
    for number in range(len(served.users)):
        part = slice(NUM_SEEDS * number, NUM_SEEDS * (number + 1))
        of_user = {name: values[part] for name, values in served.answers.items()}
        tops = of_user["item_ids"][:, 0]
        total = 0.0
        for place, item in enumerate(ITEM_IDS):
            estimates = chances(of_user, place)
            chance = estimates.mean()
            total += chance
            share = (tops == item.encode()).mean()
            variance = max(chance * (1 - chance), 0.0) / NUM_SEEDS
            variance += estimates.var() / len(estimates)
            assert abs(share - chance) <= 4.5 * np.sqrt(variance) + 1e-4, item
        assert abs(total - 1) < 0.03


def as_given(of_user, place):
    return of_user["given"][of_user["asked"] == place, 0]


def the_neighbours(of_user, place):
    return as_given(of_user, (place + 1) % len(ITEM_IDS))


def of_what_was_shown(of_user, place):
    """Counts an estimate only where its item was the answer."""
    is_shown = of_user["item_ids"][:, 0] == ITEM_IDS[place].encode()
    return np.where(is_shown, of_user["propensities"][:, 0], 0.0)


def by_score(of_user, place):
    """The chance of the softmax policy at temperature 1."""
    is_shown = of_user["item_ids"] == ITEM_IDS[place].encode()
    score = of_user["scores"][is_shown].mean() if is_shown.any() else 0.0
    return np.array([score / of_user["scores"][:, 0].mean() / len(ITEM_IDS)])


def test_items_are_shown_as_often_as_their_propensities_say(served):
    check_top(as_given, served)


@pytest.mark.parametrize("wrong", [the_neighbours, of_what_was_shown, by_score])
def test_top_checker_rejects(wrong, served):
    with pytest.raises(AssertionError):
        check_top(wrong, served)


def test_errors_of_propensities_are_served(served):
    errors = served.answers["propensity_errors"]
    assert errors.shape == (2 * NUM_SEEDS, K)
    assert (errors >= 0).all() and 0 < errors.mean() < 0.1
