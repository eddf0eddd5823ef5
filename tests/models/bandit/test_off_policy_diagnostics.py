import numpy as np
import pytest

from models.bandit.off_policy_diagnostics import (
    Level,
    by_position,
    check_propensities,
    check_target,
    diagnose,
    effective_rounds,
    unsupported_mass,
)
from models.bandit.off_policy_settings import OffPolicySettings

SETTINGS = OffPolicySettings()


def _levels(weights, **more):
    found = diagnose(weights, np.arange(len(weights)), SETTINGS, **more).findings
    return {finding.name: finding.level for finding in found}


def check_effective(implementation):
    assert implementation(np.ones(7)) == pytest.approx(7)
    assert implementation(np.array([3.0, 1.0])) == pytest.approx(1.6)
    assert implementation(np.array([5.0, 0.0, 0.0])) == pytest.approx(1)
    assert implementation(np.zeros(3)) == 0


def test_effective_rounds_value():
    check_effective(effective_rounds)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda w: float((w > 0).sum()),
        lambda w: w.sum() ** 2 / max((w**2).sum(), 1e-9) / len(w),
        lambda w: len(w) / (1 + w.var()),
    ],
    ids=["rounds with a weight", "share", "as if the mean were 1"],
)
def test_effective_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_effective(wrong)


def test_a_good_log_has_no_findings():
    weights = np.random.default_rng(0).choice([0.5, 1.5], 4000)
    facts = diagnose(weights, np.arange(4000), SETTINGS, unsupported=0.0)
    assert facts.findings == () and not facts.is_refused
    assert facts.mean_weight == pytest.approx(weights.mean())
    assert facts.effective_rounds == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )


def test_few_effective_rounds_warn_and_then_refuse():
    weights = np.zeros(10_000)
    weights[::20] = 20.0
    assert _levels(weights)["effective sample size"] is Level.WARN
    weights = np.zeros(1000)
    weights[::20] = 20.0
    assert _levels(weights)["effective sample size"] is Level.REFUSE


def test_a_heavy_round_warns_and_then_refuses():
    weights = np.ones(1000)
    weights[0] = 50.0
    assert _levels(weights)["largest weight"] is Level.WARN
    weights[0] = 500.0
    assert _levels(weights)["largest weight"] is Level.REFUSE


def test_a_mean_weight_away_from_1_refuses():
    """As where half of what served is not in the log, or propensities are doubled."""
    rng = np.random.default_rng(0)
    right = rng.choice([0.5, 1.5], 4000)
    assert _levels(right * 0.5)["mean weight"] is Level.REFUSE
    assert _levels(right * 2)["mean weight"] is Level.REFUSE
    assert "mean weight" not in _levels(right)
    assert "mean weight" not in _levels(np.ones(500))  # the logging policy itself
    assert _levels(np.full(500, 0.9))["mean weight"] is Level.REFUSE


def test_mean_weight_counts_users_not_rounds():
    """One user's odd weight, 1,000 times, is one oddity."""
    users = np.repeat(np.arange(10), 100)
    weights = np.repeat(np.random.default_rng(1).choice([0.5, 1.5], 10), 100)
    by_user = diagnose(weights, users, SETTINGS)
    by_round = diagnose(weights, np.arange(1000), SETTINGS)
    assert by_user.mean_weight_error > 5 * by_round.mean_weight_error


def test_support_is_measured_and_refused():
    target = np.array([[0.5, 0.5], [1.0, 0.0]])
    logging = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert unsupported_mass(target, logging) == 0.25
    weights = np.ones(1000)
    assert _levels(weights, unsupported=0.25)["support"] is Level.REFUSE
    assert _levels(weights, unsupported=0.01)["support"] is Level.WARN
    assert "support" not in _levels(weights, unsupported=0.0)
    assert "support" not in _levels(weights)  # not known


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.1, np.nan])
def test_check_propensities_names_the_row(wrong):
    check_propensities(np.array([1e-9, 1.0]))
    with pytest.raises(ValueError, match=r"\(0, 1\].* in row 1, and 0 others"):
        check_propensities(np.array([0.5, wrong]))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_check_target_names_the_row(wrong):
    check_target(np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"\[0, 1\].* in row 1, and 0 others"):
        check_target(np.array([0.5, wrong]))


def test_by_position_takes_the_log_apart():
    found = by_position(
        np.array([1.0, 0.0, 1.0]), np.array([2.0, 1.0, 0.5]), np.array([0, 0, 2])
    )
    assert set(found) == {0, 2}
    assert found[0] == {
        "rounds": 2,
        "effective_rounds": pytest.approx(9 / 5),
        "mean_weight": 1.5,
        "largest_weight": 2.0,
        "logged": 0.5,
        "ips": 1.0,
    }
    assert found[2]["ips"] == 0.5
