import inspect

import numpy as np
import pytest
import tensorflow as tf

from models.layers.fm_interaction import fm_interaction
from models.ranking.deepfm import DeepFM
from models.ranking.deepfm_settings import DeepFMSettings
from tests import reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import embed_rows

SIZES = {"embedding_dim": 4, "hidden": (16, 8), "dropout": 0.0}
SETTINGS = DeepFMSettings(**SIZES, shrinkage=0, id_dropout=0, numeric_knots=())


class TestDeepFM(RankerContract):
    def make(self, space):
        return DeepFM(space, DeepFMSettings(**SIZES))


# The forward pass against the paper's formula on given weights.


def _rows():
    return rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


def _with_random_weights(model_class):
    model = model_class(ranker_contract.space(), SETTINGS)
    model(_rows())
    rng = np.random.default_rng(0)
    model.set_weights([0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


def check_forward(model_class):
    model = _with_random_weights(model_class)
    rows, space = _rows(), ranker_contract.space()
    weights = {
        name: [variable.numpy() for variable in layer.variables]
        for name, layer in (
            ("terms", model.terms),
            ("mlp", model.dnn.mlp),
        )
    }
    terms = embed_rows(rows, space, *weights["terms"])
    dnn = model.dnn
    first = np.concatenate([dnn.query_dense.kernel, dnn.candidate_dense.kernel])
    expected = reference.deepfm_logits(
        terms[..., :-1],
        terms[..., -1],
        model.bias.numpy(),
        [
            (first, dnn.bias.numpy()),
            tuple(weights["mlp"]),
            (dnn.out.kernel.numpy(), np.zeros(1)),
        ],
    )
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


def _flat_fm(query, candidate):
    return fm_interaction(tf.concat([query[0], candidate[0]], axis=-2))


class NoFM(DeepFM):
    def _joined(self, query, candidate, training):
        return super()._joined(query, candidate, training) - _flat_fm(query, candidate)


class ProjectedFM(DeepFM):
    def _joined(self, query, candidate, training):
        second_order = _flat_fm(query, candidate)
        return super()._joined(query, candidate, training) - 0.5 * second_order


class NothingAcross(DeepFM):
    """Pairs within the query and within the candidate only."""

    def _joined(self, query, candidate, training):
        across = tf.reduce_sum(query[0], -2) * tf.reduce_sum(candidate[0], -2)
        return super()._joined(query, candidate, training) - tf.reduce_sum(across, -1)


class NoFirstOrder(DeepFM):
    def _joined(self, query, candidate, training):
        zero = [(vectors, 0 * weights) for vectors, weights in (query, candidate)]
        return super()._joined(*zero, training)


class FMReadsOtherVectors(DeepFM):
    def _joined(self, query, candidate, training):
        halved = [(vectors / 2, weights) for vectors, weights in (query, candidate)]
        return super()._joined(query, candidate, training) + _flat_fm(*halved)


class ReturnsProbabilities(DeepFM):
    def _joined(self, query, candidate, training):
        return tf.sigmoid(super()._joined(query, candidate, training))


def test_deepfm_forward_equals_the_formula():
    check_forward(DeepFM)


@pytest.mark.parametrize(
    "wrong",
    [
        NoFM,
        ProjectedFM,
        NothingAcross,
        NoFirstOrder,
        FMReadsOtherVectors,
        ReturnsProbabilities,
    ],
)
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


# The contract itself must be able to fail.


class DependsOnTheBatch(DeepFM):
    def call(self, features, training=False):
        logits = super().call(features, training)
        return logits - tf.reduce_mean(logits)


class DependsOnThePosition(DeepFM):
    def call(self, features, training=False):
        logits = super().call(features, training)
        return logits + 0.1 * tf.range(tf.shape(logits)[0], dtype=tf.float32)


class CountsPadding(DeepFM):
    def call(self, features, training=False):
        length = tf.shape(features["history_item_ids_xf"])[1]
        return super().call(features, training) + 0.1 * tf.cast(length, tf.float32)


class IgnoresTheItem(DeepFM):
    def _embed_candidate(self, features):
        vectors, weights = super()._embed_candidate(features)
        return 0 * vectors, 0 * weights


class StopsAGradient(DeepFM):
    def _embed(self, *arguments, **options):
        vectors, weights = super()._embed(*arguments, **options)
        return tf.stop_gradient(vectors), tf.stop_gradient(weights)


class HasAnInfiniteGradient(DeepFM):
    def _joined(self, query, candidate, training):
        return super()._joined(query, candidate, training) + tf.sqrt(0 * self.bias)


class RanksCandidatesByPriorOnly(DeepFM):
    def score_candidates(self, query, candidates):
        return super().score_candidates(
            {key: tf.zeros_like(value) for key, value in query.items()}, candidates
        )


class DependsOnTheCandidatesPlace(DeepFM):
    def logits(self, query, candidates, training):
        logits = super().logits(query, candidates, training)
        places = tf.range(tf.shape(logits)[1], dtype=tf.float32)
        return logits + 0.1 * places


class DividesByTheLengthOfTheHistory(DeepFM):
    def call(self, features, training=False):
        is_item = features["history_item_ids_xf"] != 0
        length = tf.reduce_sum(tf.cast(is_item, tf.float32), axis=1)
        return super().call(features, training) + 1 / length - 1 / length


class CountsColumns(DeepFM):
    def call(self, features, training=False):
        is_pad = features["history_item_ids_xf"] == 0
        pads = tf.reduce_sum(tf.cast(is_pad, tf.float32), axis=1)
        return super().call(features, training) + 0.01 * pads


@pytest.mark.parametrize(
    ("test", "wrong"),
    [
        ("checkerboard_is_learned", IgnoresTheItem),
        ("checkerboard_is_learned", DependsOnThePosition),
        ("scores_are_logits_and_not_probabilities", ReturnsProbabilities),
        ("scores_are_logits_and_not_probabilities", IgnoresTheItem),
        ("batch_equals_single_rows", DependsOnTheBatch),
        ("batch_equals_single_rows", DependsOnThePosition),
        ("order_of_rows_is_irrelevant", DependsOnThePosition),
        ("padding_is_irrelevant", CountsPadding),
        ("gradients_are_finite_and_reach_every_variable", IgnoresTheItem),
        ("gradients_are_finite_and_reach_every_variable", StopsAGradient),
        ("gradients_are_finite_and_reach_every_variable", HasAnInfiniteGradient),
        ("candidates_of_a_query_equal_rows", RanksCandidatesByPriorOnly),
        ("candidates_of_a_query_equal_rows", CountsPadding),
        ("order_of_candidates_is_irrelevant", DependsOnTheCandidatesPlace),
        ("row_of_which_nothing_is_known_has_a_finite_score", CountsColumns),
        (
            "row_of_which_nothing_is_known_has_a_finite_score",
            DividesByTheLengthOfTheHistory,
        ),
    ],
)
def test_ranker_contract_rejects(test, wrong):
    contract = RankerContract()
    contract.make = lambda space: wrong(space, SETTINGS)
    check = getattr(contract, f"test_{test}")
    needed = inspect.signature(check).parameters
    arguments = {}
    if "rows" in needed:
        items = np.arange(20)
        arguments["rows"] = rows_of(items, items[::-1].copy(), seed=9)
    if "trained" in needed:
        arguments["trained"] = contract.make(ranker_contract.space())
        if test.startswith(("checkerboard", "scores")):
            ranker_contract.train(arguments["trained"], num_epochs=3)
    with pytest.raises(AssertionError):
        check(**arguments)


# What is DeepFM's own.


def test_deepfm_penalty_covers_the_vectors_of_the_batch_only():
    settings = SETTINGS.model_copy(update={"l2": 0.5})
    model = DeepFM(ranker_contract.space(), settings)
    rows = _rows()
    model(rows, training=True)
    space = ranker_contract.space()
    terms = embed_rows(rows, space, *(v.numpy() for v in model.terms.variables))
    expected = 0.5 * np.square(terms).sum() / 12
    np.testing.assert_allclose(sum(model.losses), expected, rtol=1e-5)
    model(rows, training=False)
    assert model.losses == []


def test_deepfm_history_and_seed_read_the_table_of_the_item_id():
    model = _with_random_weights(DeepFM)
    rows = _rows()
    item = {key: rows[key][:1] for key in ranker_contract.space().candidate_names}
    vector = model._embed_candidate(item)[0][0, 0]
    query = {key: rows[key][:1] for key in ranker_contract.space().query_names}
    query["history_item_ids_xf"] = item["item_id_xf"][:, tf.newaxis]
    query["context_seed_xf"] = item["item_id_xf"]
    names = ranker_contract.space().query_names
    for name in ("history_item_ids_xf", "context_seed_xf"):
        same = model._embed_query(query)[0][0, names.index(name)]
        np.testing.assert_allclose(same, vector, rtol=1e-6)


def test_deepfm_drops_units_in_training_only():
    settings = SETTINGS.model_copy(update={"dropout": 0.5})
    model = DeepFM(ranker_contract.space(), settings)
    rows = _rows()
    np.testing.assert_array_equal(model(rows), model(rows))
    assert not np.allclose(model(rows, training=True), model(rows, training=True))


def test_deepfm_settings_refuse_an_unknown_key():
    with pytest.raises(ValueError, match="hiden"):
        DeepFMSettings(hiden=(8,))
