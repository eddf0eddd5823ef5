import numpy as np
import pytest

from models.bandit.estimators import Contributions, Estimator, Rounds, contributions
from models.bandit.off_policy_intervals import (
    bootstrap_values,
    empirical_bernstein,
    interval,
    of_users,
    standard_error,
)
from tests.models.bandit import off_policy_reference as reference


def _estimate(seed, num_users=40, per_user=5, name=Estimator.SNIPS):
    """Rounds of users who differ: those of one go together."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(num_users), per_user)
    liking = rng.normal(size=num_users)[users]
    rewards = 0.5 + 0.4 * liking + 0.1 * rng.normal(size=len(users))
    weights = rng.gamma(2.0, 0.5, len(users))
    return contributions(name, Rounds(rewards, weights)), users


def check_standard_error(implementation):
    for seed, name in ((0, Estimator.SNIPS), (1, Estimator.IPS)):
        part, users = _estimate(seed, name=name)
        expected = reference.clustered_error(part.influence().tolist(), users.tolist())
        np.testing.assert_allclose(implementation(part, users), expected, rtol=1e-10)


WRONG_ERRORS = {
    "rounds for users": lambda part, users: standard_error(part, np.arange(len(users))),
    "correction alone": lambda part, users: (
        standard_error(
            Contributions(part.direct, part.correction, np.ones(len(users))), users + 0
        )
        * 1.01
    ),
    "one user too few": lambda part, users: (
        standard_error(part, users) * np.sqrt(39 / 40)
    ),
}


def test_standard_error_value():
    check_standard_error(standard_error)


@pytest.mark.parametrize("wrong", WRONG_ERRORS.values(), ids=WRONG_ERRORS)
def test_standard_error_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_standard_error(wrong)


def check_bootstrap(implementation):
    """Its spread is the estimate's over fresh logs; normalised estimates keep dividing."""
    part, users = _estimate(0)
    draws = implementation([part], users)[:, 0]
    error = reference.clustered_error(part.influence().tolist(), users.tolist())
    # A bootstrap's standard deviation of 1,000 draws is itself off by 2.2 %.
    assert abs(draws.std() / error - 1) < 0.15
    assert abs(draws.mean() - part.value) < 5 * error / np.sqrt(1000) + 0.1 * error
    constant = Contributions(np.zeros(len(users)), 2 * part.normaliser, part.normaliser)
    np.testing.assert_allclose(implementation([constant], users), 2.0, rtol=1e-12)


WRONG_BOOTSTRAPS = {
    "draws rounds": lambda parts, users: bootstrap_values(parts, np.arange(len(users))),
    "draws influence": lambda parts, users: bootstrap_values(
        [
            Contributions(
                p.direct, p.correction / p.normaliser.mean(), 1 + 0 * p.direct
            )
            for p in parts
        ],
        users,
    ),
}


def test_bootstrap_value():
    check_bootstrap(bootstrap_values)


@pytest.mark.parametrize("wrong", WRONG_BOOTSTRAPS.values(), ids=WRONG_BOOTSTRAPS)
def test_bootstrap_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_bootstrap(wrong)


def test_bootstrap_draws_the_same_users_for_all_estimates():
    part, users = _estimate(0)
    other, _ = _estimate(0, name=Estimator.IPS)
    both = bootstrap_values([part, other, part], users)
    np.testing.assert_array_equal(both[:, 0], both[:, 2])
    np.testing.assert_allclose(both[:, 1], bootstrap_values([other], users)[:, 0])
    assert not np.array_equal(bootstrap_values([part], users, seed=1)[:, 0], both[:, 0])


def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 logs of 40 users: 95 % less five binomial standard errors is 88.7 %."""
    covered = 0
    for seed in range(300):
        part, users = _estimate(seed)
        low, high = interval(bootstrap_values([part], users, num_resamples=300)[:, 0])
        covered += low <= 0.5 <= high
    assert covered / 300 > 0.887


def check_bernstein(implementation):
    values = np.array([0.0, 1.0, 0.25, 0.75])
    variance = np.sum((values - 0.5) ** 2) / 3
    log_term = np.log(2 / 0.05)
    half = np.sqrt(2 * variance * log_term / 4) + 7 * 2 * log_term / (3 * 3)
    found = implementation(values, 0.0, 2.0, 0.9)
    np.testing.assert_allclose(found, (0.5 - half, 0.5 + half), rtol=1e-12)


def test_empirical_bernstein_value():
    check_bernstein(empirical_bernstein)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda values, low, high, c: empirical_bernstein(values, low, high, 2 * c - 1),
        lambda values, low, high, c: empirical_bernstein(values, 0.0, 1.0, c),
        lambda values, low, high, c: interval(values, c),
    ],
    ids=["one-sided chance halved again", "the sample's range", "quantiles"],
)
def test_bernstein_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_bernstein(wrong)


def test_empirical_bernstein_refuses_values_out_of_bounds():
    with pytest.raises(ValueError, match="low=0 to high=1. Received: 0.5 to 3"):
        empirical_bernstein(np.array([0.5, 3.0]), 0, 1)
    with pytest.raises(ValueError, match="two or more"):
        empirical_bernstein(np.array([0.5]), 0, 1)


def test_of_users_has_the_estimate_as_mean():
    part, users = _estimate(0)
    users = np.where(users < 3, 0, users)  # users of different numbers of rounds
    values = of_users(part, users)
    assert len(values) == len(set(users.tolist()))
    assert values.mean() == pytest.approx(part.value, rel=1e-12)
