"""The policy gate: metrics by hand, a world with a known value, and every refusal."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from components.evaluate_policy import (
    evaluate_policies,
    figures_of,
    judged_policies,
    metric_rewards,
    of_release,
    reward_models,
)
from components.interval_chart import Bar, interval_chart, round_ticks
from components.policy_board import policy_chart, write_board
from components.policy_gate import CANDIDATE, LAST_RELEASE, judge_policy
from components.policy_gate_settings import PolicyGateSettings
from components.policy_log import ShownRows
from components.release_policy import PolicyOnLog

NUM_ROWS = 2000
QUALITY = np.array([0.1, 0.3, 0.5, 0.7])  # chance of a click, by item
MUTED = 0.05
FAST = {"num_resamples": 100, "parameters": (1, 100)}


def _settings(**more):
    return PolicyGateSettings(places="independent", evaluation=FAST, **more)


def _log(num_rows=NUM_ROWS, seed=0):
    """Items shown at random; clicked by quality, muted one time in twenty."""
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 4, num_rows)
    luck = rng.random(num_rows)
    labels = np.where(luck < QUALITY[items], 1.0, np.where(luck > 1 - MUTED, 0.0, 0.5))
    rows = ShownRows(
        np.array([b"u%d" % (n // 4) for n in range(num_rows)], object),
        np.array([b"item%d" % item for item in items], object),
        labels,
        2 * (labels == 1.0),
        np.full(num_rows, 0.25),
        np.zeros(num_rows, np.int64),
        np.arange(num_rows),
        np.zeros(num_rows, object),
        3,
    )
    return rows, items


def _policy(items, shares, seed=1):
    """Returns a policy without context, whose ranker knows the quality."""
    rng = np.random.default_rng(seed)
    own = rng.choice(4, (len(items), 8), p=shares)
    return PolicyOnLog(np.asarray(shares)[items], QUALITY[items], QUALITY[own])


GOOD, BAD = (0.05, 0.05, 0.1, 0.8), (0.8, 0.1, 0.05, 0.05)


class _Fixed:
    """A release that answers as it was told."""

    def __init__(self, on_log):
        self._on_log = on_log

    def on_log(self, rows, slates, num_draws, seed):
        return self._on_log


# ---------------------------------------------------------------- metrics


def check_metrics(implementation):
    found = implementation(
        np.array([0.5, 1.0, 0.0, 0.75]), np.array([0.0, 3.0, 0.0, 1.0]), 0.5, 2.0
    )
    assert found["ctr"].tolist() == [0, 1, 0, 1]
    assert found["xctr"].tolist() == [0, 0, 1, 0]
    assert found["score"].tolist() == [0, 1, -2, 1]
    assert found["reward"].tolist() == [0, 3, 0, 1]


def test_metrics_value():
    check_metrics(metric_rewards)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels, rewards, neutral, cost: metric_rewards(
            labels, rewards, 0.0, cost
        ),
        lambda labels, rewards, neutral, cost: metric_rewards(
            labels, rewards, 0.5, 1.0
        ),
        lambda labels, rewards, neutral, cost: metric_rewards(
            1 - labels, rewards, neutral, cost
        ),
    ],
    ids=["impressions clicked", "a mute costs a click", "upside down"],
)
def test_metrics_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_metrics(wrong)


def check_values(implementation):
    """Every policy's CTR, xCTR and score, where they are known."""
    rows, items = _log()
    policies = {
        name: of_release(rows, _policy(items, shares))
        for name, shares in (("good", GOOD), ("bad", BAD))
    }
    found = implementation(rows, policies, 0.5, _settings())
    for name, shares in (("good", GOOD), ("bad", BAD)):
        ctr = float(np.dot(shares, QUALITY))
        truth = {"ctr": ctr, "xctr": MUTED, "score": ctr - MUTED, "reward": 2 * ctr}
        for metric, value in truth.items():
            for estimator, estimate in found[metric][name].estimates.items():
                if estimator in ("ips", "snips", "dr", "sndr", "mrdr"):
                    error = estimate.standard_error
                    assert abs(estimate.value - value) < 5 * error, (metric, estimator)


def _swapped(rows, policies, neutral, settings):
    names = list(policies)
    both = dict(zip(names, reversed(policies.values()), strict=True))
    return evaluate_policies(rows, both, neutral, settings)


def _uniform(rows, policies, neutral, settings):
    half = dataclasses.replace(rows, propensities=rows.propensities * 2)
    return evaluate_policies(half, policies, neutral, settings)


def test_policies_are_worth_what_they_are():
    check_values(evaluate_policies)


@pytest.mark.parametrize("wrong", [_swapped, _uniform], ids=["swapped", "doubled"])
def test_values_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_values(wrong)


def test_reward_models_lower_the_error_and_do_not_see_what_they_predict():
    rows, items = _log()
    policy = _policy(items, GOOD)
    clicked = (rows.labels == 1).astype(float)
    folds = (np.arange(NUM_ROWS) // 4) % 3
    q = reward_models(policy, rows.positions, clicked, folds)
    np.testing.assert_allclose(q.q_logged, QUALITY[items], atol=0.06)
    np.testing.assert_allclose(q.q_target.mean(), np.dot(GOOD, QUALITY), atol=0.03)
    changed = clicked.copy()
    changed[folds == 1] = 1 - changed[folds == 1]
    again = reward_models(policy, rows.positions, changed, folds)
    np.testing.assert_array_equal(again.q_logged[folds == 1], q.q_logged[folds == 1])
    found = evaluate_policies(
        rows, {"good": of_release(rows, policy)}, 0.5, _settings()
    )
    estimates = found["ctr"]["good"].estimates
    assert estimates["dr"].standard_error < 0.8 * estimates["ips"].standard_error


# ---------------------------------------------------------------- the gate


def _judge(shares, last=None, rows_and_items=None, **more):
    rows, items = rows_and_items or _log()
    policies = {CANDIDATE: _Fixed(_policy(items, shares))}
    if last is not None:
        policies[LAST_RELEASE] = _Fixed(_policy(items, last))
    return judged_policies(rows, policies, 0.5, _settings(**more))


def test_a_better_policy_passes_and_a_worse_one_does_not():
    figures, result = _judge(GOOD)
    assert result.passed and "score against logged" in result.checks[0].name
    assert set(figures["policies"]) == {CANDIDATE}
    _, result = _judge(BAD)
    assert not result.passed and "expected >= 0.3" in result.reason


def test_the_last_release_is_the_incumbent_where_there_is_one():
    _, result = _judge(GOOD, last=BAD)
    assert result.passed and "score against last release" in result.checks[0].name
    near = (0.05, 0.06, 0.1, 0.79)  # its estimate is not below the candidate's interval
    _, result = _judge(GOOD, last=near)
    assert not result.passed
    _, result = _judge(GOOD, last=near, margin=-0.2)
    assert result.passed
    _, result = _judge(GOOD, last=BAD, margin=9.0)
    assert not result.passed


def test_a_policy_that_did_not_change_need_not_beat_itself():
    _, result = _judge(BAD, last=BAD)
    assert result.passed and "the chances of the last release" in result.checks[0].seen


def test_mutes_are_to_shrink():
    _, result = _judge(GOOD, metric="xctr", margin=-1.0)
    assert result.passed and result.checks[0].expected.startswith("<=")
    _, result = _judge(GOOD, metric="xctr", margin=0.9)
    assert not result.passed


def test_without_propensities_the_gate_says_that_it_cannot_judge():
    rows, _ = _log()
    none = dataclasses.replace(
        rows, **{f: getattr(rows, f)[:0] for f in ("users", "items", "labels")}
    )
    figures, result = judged_policies(none, {}, 0.5, _settings())
    assert result.passed and "It cannot judge: the log has no prop" in result.reason
    assert figures == {"log": {"rows": 0, "rows_without_propensity": 3}}
    _, result = judged_policies(none, {}, 0.5, _settings(without_propensities="refuse"))
    assert not result.passed and "without_propensities: allow" in result.reason


def test_a_weak_log_refuses_or_is_passed_over():
    small = _log(60)
    _, result = _judge(GOOD, rows_and_items=small)
    assert not result.passed and "effective sample size of candidate" in result.reason
    _, result = _judge(GOOD, rows_and_items=small, with_weak_log="allow")
    assert result.passed and "It cannot judge: the log is too weak" in result.reason


def test_propensities_that_did_not_serve_are_refused():
    rows, items = _log()
    wrong = dataclasses.replace(rows, propensities=rows.propensities * 2)
    _, result = _judge(GOOD, rows_and_items=(wrong, items))
    assert not result.passed and "mean weight of candidate" in result.reason


def test_slates_that_lack_places_are_refused():
    rows, items = _log()
    gap = dataclasses.replace(rows, positions=rows.positions + 1)
    settings = PolicyGateSettings(places="cascade", evaluation=FAST)
    policies = {CANDIDATE: _Fixed(_policy(items, GOOD))}
    _, result = judged_policies(gap, policies, 0.5, settings)
    assert not result.passed and "places of the log's slates" in result.reason


def test_judge_policy_refuses_an_estimate_that_is_no_number():
    rows, items = _log()
    policies = {CANDIDATE: of_release(rows, _policy(items, GOOD))}
    found = evaluate_policies(rows, policies, 0.5, _settings())["score"]
    nan = dataclasses.replace(found[CANDIDATE].estimates["dr"], low=np.nan)
    found[CANDIDATE].estimates["dr"] = nan
    result = judge_policy(found, found[CANDIDATE].estimates["ips"], _settings())
    assert not result.passed


@pytest.mark.parametrize("wrong", [{"metric": "clicks"}, {"estimator": "dm"}])
def test_settings_refuse_what_there_is_not(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PolicyGateSettings(**wrong)


# ---------------------------------------------------------------- what is shown


def test_figures_and_board_hold_every_estimate(tmp_path):
    rows, items = _log(800)
    policies = {CANDIDATE: of_release(rows, _policy(items, GOOD))}
    found = evaluate_policies(rows, policies, 0.5, _settings())
    figures = figures_of(rows, found, 0.5, _settings())
    assert figures["log"]["rows"] == 800
    assert figures["log"]["clicks"] == int((rows.labels == 1).sum())
    assert figures["logged"]["reward"]["value"] == pytest.approx(rows.rewards.mean())
    of_policy = figures["policies"][CANDIDATE]
    assert set(of_policy["metrics"]) == {"score", "ctr", "xctr", "reward"}
    low, high = of_policy["metrics"]["ctr"]["dr"]["interval"]
    assert low < of_policy["metrics"]["ctr"]["dr"]["value"] < high
    assert of_policy["positions"]["0"]["rounds"] == 800
    write_board(figures, str(tmp_path))
    assert list((tmp_path / CANDIDATE).glob("events.*"))
    assert list(tmp_path.glob("events.*"))
    assert policy_chart(figures, "ctr").std() > 0


def test_interval_chart_draws_values_where_they_are():
    bars = [Bar("a", 1.0, 0.5, 1.5), Bar("b", 3.0, 3.0, 3.0, 1)]
    image = interval_chart("t", "x", bars, reference=2.0)
    again = interval_chart("t", "x", bars, reference=2.0)
    np.testing.assert_array_equal(image, again)
    blue, orange = np.array([0, 114, 178]), np.array([213, 94, 0])
    columns = {
        name: np.flatnonzero((image == colour).all(axis=2).any(axis=0))
        for name, colour in (("a", blue), ("b", orange))
    }
    scale = (columns["b"].mean() - columns["a"].mean()) / 2.0  # pixels a unit
    assert np.ptp(columns["a"]) == pytest.approx(scale, abs=3)  # 0.5 to 1.5
    assert np.ptp(columns["b"]) < 12


def test_round_ticks_are_around_all_values():
    assert round_ticks([0.0012, 0.0047]) == [0.001, 0.002, 0.003, 0.004, 0.005]
    assert round_ticks([2.0, 2.0])[0] <= 2 <= round_ticks([2.0, 2.0])[-1]
    assert len(round_ticks([0.0])) >= 2
