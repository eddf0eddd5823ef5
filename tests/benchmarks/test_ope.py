"""The off-policy benchmarks' pure parts: worlds by enumeration, figures by hand."""

import dataclasses
import json
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import dr_variance, ope_bandits, ope_parity, ope_rmse
from benchmarks.document import drawn_plots, with_tables
from benchmarks.dr_variance import FITS, POLICIES, World, model_variance
from benchmarks.ope_bandits import drawn_actions, drawn_bandit
from benchmarks.ope_parity import one_hot, read_log
from benchmarks.ope_rmse import NAMES, Errors
from benchmarks.targets import TARGETS
from models.bandit.estimators import Estimator, contributions
from models.bandit.reward_model import RoundFeatures

# ---------------------------------------------------------------- bandits of sets


@pytest.fixture(scope="module")
def bandit():
    return drawn_bandit("iris", 3)


def test_bandit_is_what_its_policies_and_labels_make_it(bandit):
    size = len(bandit.actions)
    assert size == 105 and bandit.features.contexts.shape == (105, 4)
    for shares, greed in ((bandit.logging, 0.4), (bandit.target, 0.9)):
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        chosen = greed + (1 - greed) / 3
        np.testing.assert_allclose(shares.max(axis=1), chosen)
        np.testing.assert_allclose(shares.min(axis=1), (1 - greed) / 3)
    assert 1 / 3 < bandit.value < 0.9 + 0.1 / 3 + 1e-9
    other = drawn_bandit("iris", 4)
    assert other.value != bandit.value or (other.actions != bandit.actions).any()


def test_bandit_rewards_the_right_class(bandit):
    """Tried often enough, the mean of w r is the value: labels and actions go together."""
    rounds = np.arange(len(bandit.actions))
    weights = (bandit.target / bandit.logging)[rounds, bandit.actions]
    error = (weights * bandit.rewards).std() / np.sqrt(len(rounds))
    assert abs((weights * bandit.rewards).mean() - bandit.value) < 5 * error


def check_drawn(implementation):
    shares = np.tile([0.5, 0.2, 0.0, 0.3], (20_000, 1))
    drawn = implementation(shares, np.random.default_rng(0))
    share = np.bincount(drawn, minlength=4) / len(drawn)
    # Five binomial standard errors of a share of a half.
    np.testing.assert_allclose(share, shares[0], atol=5 * 0.5 / np.sqrt(20_000))


def test_drawn_actions_value():
    check_drawn(drawn_actions)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda shares, rng: rng.integers(0, 4, len(shares)),
        lambda shares, rng: shares.argmax(axis=1),
        lambda shares, rng: 3 - drawn_actions(shares, rng),
    ],
)
def test_drawn_actions_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_drawn(wrong)


# ---------------------------------------------------------------- rmse


def _found():
    """Two sets of two seeds; every estimator is off by .3 and .4, and covers once."""
    errors = np.tile([[0.3], [-0.4]], (1, len(NAMES)))
    covered = np.tile([[1.0], [0.0]], (1, len(NAMES)))
    place = NAMES.index("dr")
    better = errors.copy()
    better[:, place] /= 2
    return {"a": Errors(errors, covered), "b": Errors(better, covered)}


def check_figures(implementation):
    values, intervals = implementation(_found())
    assert values["rmse_ips"] == pytest.approx(np.sqrt(0.125))
    assert values["rmse_dr_b"] == pytest.approx(np.sqrt(0.125) / 2)
    assert values["rmse_dr"] == pytest.approx(np.sqrt((0.125 + 0.03125) / 2))
    assert values["rmse_dr_by_ips"] == pytest.approx(np.sqrt(0.625))
    assert values["coverage_mrdr"] == 0.5
    assert intervals["rmse_ips"] == pytest.approx((0.3, 0.4))
    assert intervals["rmse_dr_by_ips"] == pytest.approx((np.sqrt(0.625),) * 2)


def _signs_dropped(found):
    return ope_rmse.figures(
        {n: dataclasses.replace(e, errors=e.errors**2) for n, e in found.items()}
    )


def _as_biases(found):
    return ope_rmse.figures(
        {
            n: dataclasses.replace(
                e, errors=np.repeat(e.errors.mean(axis=0)[None], 2, 0)
            )
            for n, e in found.items()
        }
    )


def test_rmse_figures_value():
    check_figures(ope_rmse.figures)


@pytest.mark.parametrize("wrong", [_signs_dropped, _as_biases])
def test_rmse_figures_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_rmse_of_a_log_has_every_estimator_and_goes_on_from_its_file(
    bandit, tmp_path, monkeypatch
):
    q = ope_rmse.reward_models(bandit, 0)
    errors, covered = ope_rmse.errors_of(bandit, q)
    assert len(errors) == len(covered) == len(NAMES)
    by_name = dict(zip(NAMES, errors, strict=True))
    assert abs(by_name["dm"]) > abs(by_name["snips"])
    monkeypatch.setattr(ope_rmse, "drawn_bandit", lambda name, seed: bandit)
    monkeypatch.setattr(ope_rmse, "reward_models", lambda bandit, seed: q)
    first = ope_rmse.kept(tmp_path / "iris.npz", "iris", [0])
    monkeypatch.delattr(ope_rmse, "drawn_bandit")
    again = ope_rmse.kept(tmp_path / "iris.npz", "iris", [0])
    np.testing.assert_array_equal(first.errors, again.errors)
    np.testing.assert_array_equal(first.errors[0], errors)


# ---------------------------------------------------------------- variance


def check_variance(implementation):
    """By drawing: the variance of w (q - means) over actions, for each context."""
    rng = np.random.default_rng(0)
    target, logging = rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(3), 4)
    q, means = rng.random((4, 3)), rng.random((4, 3))
    away = target / logging * (q - means)
    first = (logging * away).sum(axis=1)
    expected = ((logging * away**2).sum(axis=1) - first**2).mean()
    found = implementation(q, means, target, logging)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_model_variance_value():
    check_variance(model_variance)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda q, means, target, logging: float(
            ((target * (q - means)) ** 2 / logging).sum(axis=1).mean()
        ),
        lambda q, means, target, logging: model_variance(q, means, logging, target),
    ],
    ids=["second moment", "policies swapped"],
)
def test_model_variance_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_variance(wrong)


def test_variances_are_least_where_they_were_asked_for():
    rng = np.random.default_rng(0)
    found = dr_variance.variances(World.drawn(rng, 2.0), rng, 20_000)
    by_name = dict(zip(FITS, found, strict=True))
    assert by_name["full"] < by_name["ols"] and by_name["squared"] < by_name["ols"]


def test_variance_figures_are_of_the_longest_log_and_paired():
    rows = np.arange(10.0).reshape(2, 5)  # two worlds: 0..4 and 5..9
    by_size = {10: rows + 100, 20: rows}
    values, intervals = dr_variance.figures(dict.fromkeys(POLICIES, by_size))
    assert values["variance_ols_stochastic"] == 2.5
    assert values["variance_full_stochastic_10"] == 106.5
    assert values["squared_minus_full_stochastic"] == -1
    assert intervals["squared_minus_full_stochastic"] == (-1, -1)
    [plot, _] = dr_variance.plots(dict.fromkeys(POLICIES, by_size))
    assert plot.series["ols"] == [(10, 102.5), (20, 2.5)]


# ---------------------------------------------------------------- parity


@pytest.fixture
def fetched(tmp_path):
    """Three showings of two items to two segments, one of them clicked."""
    ids = ["random-all-00001", "random-all-00002", "random-all-00003"]
    clicked = f"{ids[1]}-click"
    events = {
        "event_id": [*ids, clicked],
        "user_id": ["s2", "s1", "s2", "s1"],
        "item_id": ["all-1", "all-0", "all-1", "all-0"],
        "event_type": ["impression"] * 3 + ["click"],
        "position": [2, 0, 1, None],
        "propensity": [0.5, 0.25, 0.125, None],
    }
    items = {
        "item_id": ["all-0", "all-1"],
        "feature_0": [0.1, 0.2],
        **{f"feature_{n}": ["y", "x"] for n in (1, 2, 3)},
    }
    users = {"user_id": ["s1", "s2"], **{f"feature_{n}": ["a", "b"] for n in range(4)}}
    for name, columns in (
        ("events-random-all", events),
        ("items-all", items),
        ("users", users),
    ):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    return tmp_path


def test_log_is_read_in_the_oracles_order(fetched):
    shares = np.array([[0.75, 0.5, 0.25], [0.25, 0.5, 0.75]])
    log = read_log(fetched, shares, np.array([2, 0, 1]))
    assert log.actions.tolist() == [1, 1, 0]
    assert log.positions.tolist() == [1, 2, 0]
    assert log.rewards.tolist() == [0, 0, 1]
    assert log.propensities.tolist() == [0.125, 0.5, 0.25]
    np.testing.assert_allclose(log.weights, [0.5 / 0.125, 0.75 / 0.5, 0.75 / 0.25])
    assert log.features.contexts.tolist() == [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    assert log.features.actions.tolist() == [[1, 1, 1, 0.1], [0, 0, 0, 0.2]]
    q = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    rounds = log.rounds(q)
    np.testing.assert_allclose(rounds.q_logged, [0.2, 0.4, 0.5])
    np.testing.assert_allclose(rounds.q_target, [0.15, 0.375, 0.525])


def test_one_hot_leaves_out_the_first_word():
    words = np.array(["b", "c", "a", "b"])
    assert one_hot(words).tolist() == [[1, 0], [0, 1], [0, 0], [1, 0]]


def test_differences_are_seen_where_there_are_some():
    rng = np.random.default_rng(0)
    size = 200
    log = ope_parity.Log(
        RoundFeatures(np.zeros((size, 1)), np.zeros((4, 1))),
        rng.integers(0, 4, size),
        np.zeros(size, np.int64),
        rng.integers(0, 2, size).astype(float),
        np.full(size, 0.25),
        np.arange(size),
        np.array([[0.4], [0.3], [0.2], [0.1]]),
    )
    models = {"dr": rng.random((size, 4)), "mrdr": rng.random((size, 4))}
    values = {n: part.value for n, part in ope_parity.estimates(log, models).items()}
    rounds = log.rounds(models["dr"])
    tuned = {
        estimator.value: {"value": contributions(estimator, rounds, 1.0).value}
        for estimator in ope_parity.TUNED
    }
    facts = {"fixed": values, "slope": tuned, "mse": tuned}
    found = ope_parity.differences(log, facts, models)
    assert found["fixed"] == 0
    facts["fixed"] = {**values, Estimator.DROS.value: values["dros"] + 0.01}
    assert ope_parity.differences(log, facts, models)["fixed"] == pytest.approx(0.01)
    tuned["dros"]["value"] += 1.0
    assert ope_parity.differences(log, facts, models)["tuned"] > 0.9


def test_the_oracle_runs_once(tmp_path, monkeypatch):
    calls = []

    def run(command, **options):
        calls.append(command)
        np.savez(command[-2], facts=json.dumps({}))

    monkeypatch.setattr(ope_parity.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run)
    assert ope_parity.oracle_file() == ope_parity.oracle_file()
    assert len(calls) == 1 and calls[0][-1] == str(ope_parity.SEED)
    assert str(ope_parity.PEER) in calls[0]


def test_targets_name_figures_that_there_are():
    found = {policy: {1: np.ones((2, 5))} for policy in POLICIES}
    assert set(TARGETS["dr_variance"]) <= set(dr_variance.figures(found)[0])
    assert set(TARGETS["ope_rmse"]) <= set(ope_rmse.figures(_found())[0])
    assert set(ope_bandits.SETS) == {"digits", "wine", "breast_cancer", "iris"}


def test_results_on_file_are_documented():
    page = "\n".join(
        f"<!-- results: {name} -->\n<!-- end -->"
        for name in ("ope_parity", "ope_rmse", "dr_variance")
    )
    text = with_tables(page)
    for key in ("max_abs_difference", "rmse_mrdr", "variance_full_stochastic"):
        assert f"`{key}`" in text
    assert len(drawn_plots(page)) == 3
