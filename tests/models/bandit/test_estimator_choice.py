import math

import numpy as np
import pytest
from scipy import stats

from models.bandit.estimator_choice import (
    chosen_parameter,
    grid_of,
    mse_choice,
    slope_choice,
    squared_bias_bound,
)
from models.bandit.estimators import Estimator, Rounds, contributions
from models.bandit.off_policy_settings import Choice

GRID = [1.0, 3.0, 10.0, 100.0, 10_000.0]


def _rounds(seed, num=2000, bias=0.0):
    """Heavy-tailed weights; `bias` is how wrong q is where weights are large."""
    rng = np.random.default_rng(seed)
    weights = np.exp(1.5 * rng.normal(size=num) - 1.125)
    q = np.full(num, 0.5)
    rewards = q + bias * (weights > 3) + 0.1 * rng.normal(size=num)
    return Rounds(rewards, weights, q, q)


def _reference_slope(estimator, rounds, grid):
    """Algorithm 1: the last candidate that is in the intervals of all before it."""
    table = []
    for parameter in grid:
        shares = contributions(estimator, rounds, parameter).influence()
        n = len(shares)
        error = math.sqrt(sum((s - shares.mean()) ** 2 for s in shares) / n / (n - 1))
        table.append((error * stats.t.ppf(0.9, n - 1), shares.mean(), parameter))
    table.sort(key=lambda row: -row[0])
    last = table[0]
    for place, (width, value, parameter) in enumerate(table):
        fits = all(
            abs(value - other) <= width + (math.sqrt(6) - 1) * wide
            for wide, other, _ in table[:place]
        )
        if not fits:
            break
        last = (width, value, parameter)
    return last[2]


def check_slope(implementation):
    found = []
    for seed in range(6):
        for bias in (0.0, 0.3, 1.0):
            rounds = _rounds(seed, bias=bias)
            expected = _reference_slope(Estimator.SWITCH_DR, rounds, GRID)
            assert implementation(Estimator.SWITCH_DR, rounds, GRID) == expected
            found.append(expected)
    assert len(set(found)) > 2  # the cases tell parameters apart


WRONG_SLOPES = {
    "the least variance": lambda e, r, g: min(
        g, key=lambda p: contributions(e, r, p).influence().var()
    ),
    "the least bias": lambda e, r, g: max(g),
    "neighbours alone": lambda e, r, g: slope_choice(e, r, g[:2]),
}


def test_slope_value():
    check_slope(slope_choice)


@pytest.mark.parametrize("wrong", WRONG_SLOPES.values(), ids=WRONG_SLOPES)
def test_slope_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_slope(wrong)


def check_bound(implementation):
    rounds = _rounds(0, num=50, bias=1.0)
    weights, residuals = rounds.weights, rounds.rewards - rounds.q_logged
    shrunk = 3 * weights / (weights**2 + 3)
    bias = abs(np.mean((shrunk - weights) * residuals))
    bias += math.sqrt(2 * np.mean(weights**2) * math.log(40) / 50)
    bias += 2 * max(weights) * math.log(40) / 150
    found = implementation(Estimator.DROS, rounds, 3.0)
    np.testing.assert_allclose(found, bias**2, rtol=1e-12)


def test_squared_bias_bound_value():
    check_bound(squared_bias_bound)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda e, r, p: squared_bias_bound(Estimator.SWITCH_DR, r, p),
        lambda e, r, p: squared_bias_bound(e, r, p) ** 0.5,
        lambda e, r, p: squared_bias_bound(e, r, np.inf),
    ],
    ids=["other weights", "not squared", "without the bias seen"],
)
def test_bound_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_bound(wrong)


def test_a_right_model_lets_large_weights_go_and_a_wrong_one_keeps_them():
    right, wrong = _rounds(0), _rounds(0, num=20_000, bias=1.0)
    for choose in (slope_choice, mse_choice):
        few = choose(Estimator.SWITCH_DR, right, GRID)
        assert few < choose(Estimator.SWITCH_DR, wrong, GRID)


def test_chosen_parameter_asks_the_rule():
    rounds = _rounds(0, bias=0.3)
    for choice, rule in ((Choice.SLOPE, slope_choice), (Choice.MSE, mse_choice)):
        found = chosen_parameter(Estimator.DROS, rounds, GRID, choice)
        assert found == rule(Estimator.DROS, rounds, GRID)
    assert grid_of(Estimator.SG_DR, [0.5, 4.0]) == [1.0, 0.25]
    assert chosen_parameter(Estimator.SG_DR, rounds, GRID) <= 1
    with pytest.raises(ValueError, match="at least one"):
        chosen_parameter(Estimator.DROS, rounds, [])
