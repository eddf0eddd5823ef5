"""The Bayesian FM: the contract of rankers, its posterior by autodiff, and its updates."""

import numpy as np
import pytest
import tensorflow as tf

from models.bandit import laplace
from models.bandit.bayesian_fm import BayesianFM
from models.bandit.laplace import Beliefs
from models.ranking.bayesian_fm_settings import BayesianFMSettings
from models.ranking.settings import RankingSettings
from tests.models import ranker_contract
from tests.models.ranker_contract import (
    WORLD,
    RankerContract,
    queries_and_candidates,
    rows_of,
)

SETTINGS = BayesianFMSettings(
    embedding_dim=4,
    weight_deviation=1.0,
    vector_deviation=1.0,
    initial_deviation=0.3,
    newton_steps=2,
)


THOROUGH = SETTINGS.model_copy(update={"newton_steps": 8, "solver_steps": 20})


def learn_world(model) -> None:
    """Learns the pairs of the checkerboard, as one batch and twice: they are few.

    Batch by batch, a user of whom the first rows say little may end on the wrong side,
    sure of it; which users these are depends on the start.
    """
    users, items, labels = WORLD.impressions()
    rows, targets = rows_of(users, items), tf.constant(labels, tf.float32)
    learn = tf.function(model.learn)
    for _ in range(2):
        learn(rows, targets)


class TestBayesianFM(RankerContract):
    def make(self, space):
        return BayesianFM(space, SETTINGS)

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls):
        tf.keras.utils.set_random_seed(3)
        model = BayesianFM(ranker_contract.space(), THOROUGH)
        learn_world(model)
        return model


@pytest.fixture(scope="module")
def model():
    """Returns a model with means and precisions as after much learning."""
    model = BayesianFM(ranker_contract.space(), SETTINGS)
    rng = np.random.default_rng(0)
    model.means.assign(0.4 * rng.normal(size=model.means.shape))
    model.precisions.assign(rng.uniform(1.0, 40.0, size=model.precisions.shape))
    return model


def slopes_of(model, rows):
    """Returns [B, N, D]: d logit / d parameter of each row, by automatic differentiation."""
    with tf.GradientTape(persistent=True) as tape:
        logits = model(rows)
    return np.asarray(
        tape.jacobian(logits, model.means, experimental_use_pfor=False)
    ).reshape([len(logits), *model.means.shape])


def check_posterior(posterior, model):
    """The delta method with the derivatives that TensorFlow finds."""
    query, candidates, rows = queries_and_candidates(3, 4)
    means, deviations = posterior(model, query, candidates)
    np.testing.assert_allclose(
        means, model.score_candidates(query, candidates), rtol=1e-4, atol=1e-4
    )
    slopes = slopes_of(model, rows)
    variances = (slopes**2 / model.precisions.numpy()).sum(axis=(1, 2))
    np.testing.assert_allclose(
        np.ravel(deviations), np.sqrt(variances), rtol=1e-4, atol=1e-5
    )


def _deviation_1_over_q(model, query, candidates):
    twin = BayesianFM(ranker_contract.space(), SETTINGS)
    twin.means.assign(model.means)
    twin.precisions.assign(model.precisions**2)
    return twin.posterior(query, candidates)


def _candidates_alone(model, query, candidates):
    means, _ = model.posterior(query, candidates)
    shared = model.shared_posterior(query, candidates)
    return means, tf.sqrt(shared["variances"])


def _without_the_bias(model, query, candidates):
    means, deviations = model.posterior(query, candidates)
    return means, tf.sqrt(deviations**2 - 1.0 / model.precisions[0, 0])


WRONG_POSTERIORS = [_deviation_1_over_q, _candidates_alone, _without_the_bias]


def test_posterior_is_the_delta_method(model):
    check_posterior(BayesianFM.posterior, model)


@pytest.mark.parametrize("wrong", WRONG_POSTERIORS)
def test_posterior_checker_rejects(wrong, model):
    with pytest.raises(AssertionError):
        check_posterior(wrong, model)


def check_shared(shared_posterior, model):
    """A query's vector moved by d: logits move by <slopes, d> and a common number.

    And the variance that is left is that of the candidates' parameters, there.
    """
    query, candidates, rows = queries_and_candidates(3, 4)
    shared = {
        k: v.numpy() for k, v in shared_posterior(model, query, candidates).items()
    }
    moved = np.array([0.3, -0.2, 0.5, 0.1], np.float32)
    first = model._first_row["user_id_xf"]
    user_rows = tf.constant([[first + u] for u in query["user_id_xf"].numpy()])
    before = model.score_candidates(query, candidates).numpy()
    vectors = tf.pad(tf.constant([moved] * 3), [[0, 0], [1, 0]])
    model.means.assign(tf.tensor_scatter_nd_add(model.means, user_rows, vectors))
    after = model.score_candidates(query, candidates).numpy()
    slopes = slopes_of(model, rows)
    model.means.assign(tf.tensor_scatter_nd_sub(model.means, user_rows, vectors))
    common = after - before - shared["slopes"] @ moved
    np.testing.assert_allclose(common, common[:, :1].repeat(4, 1), atol=1e-4)
    np.testing.assert_allclose(shared["means"], before, rtol=1e-4, atol=1e-4)
    space = ranker_contract.space()
    first_of_items = model._first_row[space.candidate_features[0].name]
    own = (slopes**2 / model.precisions.numpy())[:, first_of_items:].sum(axis=(1, 2))
    given = (
        shared["variances"]
        + 2 * shared["variance_slopes"] @ moved
        + shared["variance_curvatures"] @ moved**2
    )
    np.testing.assert_allclose(given.ravel(), own, rtol=1e-3)
    # The sum of the query's vectors, field by field, over draws of the parameters.
    sums = laplace.field_variances(model.precisions, model._query_entries(query))
    expected = np.sqrt(sums.numpy()[..., 1:].sum(axis=1))
    np.testing.assert_allclose(shared["shared_deviations"], expected, rtol=1e-5)


def _with(**changes):
    def shared_posterior(model, query, candidates):
        shared = model.shared_posterior(query, candidates)
        return shared | {name: f(shared[name]) for name, f in changes.items()}

    return shared_posterior


@pytest.mark.parametrize(
    "wrong",
    [
        _with(variance_slopes=lambda values: 2 * values),
        _with(slopes=lambda values: values - 0.1 * tf.sign(values)),
        _with(shared_deviations=tf.square),
        _with(variances=lambda values: values + 0.02),
    ],
)
def test_shared_checker_rejects(wrong, model):
    with pytest.raises(AssertionError):
        check_shared(wrong, model)


def test_shared_posterior_value(model):
    check_shared(BayesianFM.shared_posterior, model)


def check_learning(learn):
    """As `laplace.updated` on the whole table; rows that no data holds stay."""
    tf.keras.utils.set_random_seed(5)
    model = BayesianFM(ranker_contract.space(), SETTINGS)
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    targets = tf.constant(np.arange(12) % 3 / 2, tf.float32)
    before = Beliefs(*(tf.identity(table) for table in model.weights))
    fields = [*model._query_entries(rows), *model._candidate_entries(rows)]
    expected = laplace.updated(before, fields, targets)
    learn(model, rows, targets)
    for table, values in zip(model.weights, expected, strict=True):
        np.testing.assert_allclose(table, values, rtol=2e-3, atol=2e-4)
    held = np.unique(np.concatenate([f.rows.numpy().ravel() for f in fields]))
    others = np.setdiff1d(np.arange(len(before.means)), held)
    assert len(others) > 20
    for table, values in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(table.numpy()[others], values.numpy()[others])
    assert (model.precisions.numpy() >= before.precisions.numpy()).all()


def _twice(model, rows, targets):
    model.learn(rows, targets)
    model.learn(rows, targets)


def _hard_labels(model, rows, targets):
    model.learn(rows, tf.round(targets))


@pytest.mark.parametrize("wrong", [_twice, _hard_labels])
def test_learning_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_learning(wrong)


def test_learning_changes_what_the_batch_holds():
    check_learning(BayesianFM.learn)


def test_forgetting_brings_precisions_back_towards_the_prior():
    """By hand: q <- prior + .5 (q - prior), before the batch adds its own."""
    learnt = {}
    for forgetting in (1.0, 0.5):
        tf.keras.utils.set_random_seed(5)
        settings = SETTINGS.model_copy(update={"forgetting": forgetting})
        model = BayesianFM(ranker_contract.space(), settings)
        prior = model.precisions.numpy()
        model.precisions.assign(prior + 8.0)
        rows = rows_of(np.zeros(1, int), np.ones(1, int), seed=4)
        model.learn(rows, tf.ones([1]))
        learnt[forgetting] = model.precisions.numpy() - prior
    kept, forgot = learnt[1.0], learnt[0.5]
    user = model._first_row["user_id_xf"] + int(rows["user_id_xf"][0])
    for row in (0, user):
        assert 8.0 < kept[row, 0] < 8.26  # p (1 - p) is at most a quarter
        assert 4.0 < forgot[row, 0] < 4.26
    other = user + 1
    np.testing.assert_allclose(forgot[other], 8.0, rtol=1e-5)


def test_an_item_that_no_row_held_is_at_the_prior():
    """So a new arm is less sure than the others, and is what exploring policies try."""
    tf.keras.utils.set_random_seed(3)
    model = BayesianFM(ranker_contract.space(), SETTINGS)
    prior = model.precisions.numpy()
    users, items, labels = WORLD.impressions()
    is_known = items != 5
    model.learn(
        {k: v[is_known] for k, v in rows_of(users, items).items()},
        tf.constant(labels[is_known], tf.float32),
    )
    first = model._first_row["item_id_xf"] + 2
    of_items = model.precisions.numpy()[first : first + WORLD.size]
    np.testing.assert_array_equal(of_items[5], prior[first + 5])
    others = np.delete(of_items, 5, axis=0)
    assert (others[:, 0] > of_items[5, 0]).all()


@pytest.mark.parametrize(
    "setting",
    [{"position_bias": True}, {"positive_weight": 2.0}, {"mixed_precision": True}],
)
def test_settings_that_the_update_does_not_know_are_refused(setting):
    with pytest.raises(ValueError, match=f"`{next(iter(setting))}` should be left out"):
        RankingSettings.model_validate({"model": "bayesian_fm", **setting})
