import numpy as np
import pytest

from models.bandit.estimators import Contributions, Estimator, Rounds, contributions
from models.bandit.off_policy_intervals import (
    Resamples,
    empirical_bernstein,
    interval,
    of_users,
    resampled,
    standard_error,
    studentised_interval,
    user_totals,
)
from models.retrieval.intervals import UserBootstrap
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


def check_resampled(implementation):
    """A resample is the estimate, and its error, of the log of the users drawn."""
    part, users = _estimate(0)
    other, _ = _estimate(1, name=Estimator.IPS)
    draws = UserBootstrap(np.arange(40), 3, 50)
    found = implementation([part, other], users, 3, 50)
    for row, drawn in enumerate(np.concatenate(list(draws.row_weights()))):
        rows = np.concatenate([np.flatnonzero(users == u) for u in _names(drawn)])
        # A user who is drawn twice is two users of the resampled log.
        names = np.repeat(np.arange(40), 5)
        for place, whole in enumerate((part, other)):
            log = Contributions(
                whole.direct[rows], whole.correction[rows], whole.normaliser[rows]
            )
            error = reference.clustered_error(log.influence().tolist(), names.tolist())
            np.testing.assert_allclose(found.values[row, place], log.value, rtol=1e-9)
            np.testing.assert_allclose(found.errors[row, place], error, rtol=1e-9)


def _names(drawn):
    return np.repeat(np.arange(len(drawn)), drawn.astype(int))


def _normalised_once(parts, users, seed, num):
    """Draws influences: the mean weight of the whole log stands for every resample's."""
    fixed = [
        Contributions(0 * p.direct, p.influence(), np.ones(len(users))) for p in parts
    ]
    return resampled(fixed, users, seed, num)


WRONG_DRAWS = {
    "rounds for users": lambda parts, users, *rest: resampled(
        parts, np.arange(len(users)), *rest
    ),
    "normalised once": _normalised_once,
    "the log's own errors": lambda parts, users, *rest: Resamples(
        resampled(parts, users, *rest).values,
        np.tile([standard_error(p, users) for p in parts], (rest[1], 1)),
    ),
}


def test_resampled_value():
    check_resampled(resampled)


@pytest.mark.parametrize("wrong", WRONG_DRAWS.values(), ids=WRONG_DRAWS)
def test_resampled_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_resampled(wrong)


def check_studentised(implementation):
    """Quantiles by hand: t is -2, 1, 3; the high t gives the low end."""
    low, high = implementation(
        1.0, 0.5, np.array([0.8, 1.2, 1.9]), np.array([0.1, 0.2, 0.3]), 0.5
    )
    quarter, three_quarters = -0.5, 2.0  # halfway between -2 and 1, and 1 and 3
    np.testing.assert_allclose(
        (low, high), (1 - 0.5 * three_quarters, 1 - 0.5 * quarter)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda value, error, values, errors, c: interval(values, c),
        lambda value, error, values, errors, c: tuple(
            value + error * t for t in interval((values - value) / errors, c)
        ),
        lambda value, error, values, errors, c: studentised_interval(
            value, error, values, np.full(3, error), c
        ),
    ],
    ids=["quantiles of values", "not turned round", "one error for all"],
)
def test_studentised_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_studentised(wrong)


def test_studentised_interval_value():
    check_studentised(studentised_interval)


def test_studentised_interval_of_what_does_not_vary_is_a_point():
    part = Contributions(np.ones(6), np.zeros(6), np.ones(6))
    draws = resampled([part], np.arange(6), 0, 100)
    found = studentised_interval(1.0, 0.0, draws.values[:, 0], draws.errors[:, 0])
    assert found == (1.0, 1.0)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 logs of 40 users: 95 % less five binomial standard errors is 88.7 %."""
    covered = 0
    for seed in range(300):
        part, users = _estimate(seed)
        draws = resampled([part], users, num_resamples=300)
        low, high = studentised_interval(
            part.value,
            standard_error(part, users),
            draws.values[:, 0],
            draws.errors[:, 0],
        )
        covered += low <= 0.5 <= high
    assert covered / 300 > 0.887


def test_user_totals_add_up():
    totals, sizes = user_totals([np.arange(5.0), np.ones(5)], np.array(list("ababa")))
    np.testing.assert_array_equal(totals, [[6, 3], [4, 2]])
    np.testing.assert_array_equal(sizes, [3, 2])


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
