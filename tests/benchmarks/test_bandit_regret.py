"""The pure parts of the bandit simulations, and small runs of them."""

import json

import numpy as np
import pytest

from benchmarks import bandit_ads, bandit_regret, bandit_tastes
from benchmarks.bandit_ads import Ads, chosen
from benchmarks.bandit_tastes import Tastes, World

SMALL_ADS = Ads(ads=6, groups=3, eligible=4, users=40, hours=3)
SMALL_TASTES = Tastes(users=20, items=9, candidates=4, batch=30, batches=2)
MEANS = np.tile([0.0, 1.0, 0.8], (20_000, 1))
DEVIATIONS = np.tile([2.0, 0.1, 0.5], (20_000, 1))


def check_rules(choose):
    """Shares of choices: of Thompson's by another generator, of the others by hand."""

    def shares(policy, parameter=0.0):
        rng = np.random.default_rng(1)
        columns = choose(policy, MEANS, DEVIATIONS, rng, parameter)
        return np.bincount(columns, minlength=3) / len(columns)

    bound = 5 * np.sqrt(0.25 * 2 / len(MEANS))
    drawn = MEANS + 0.5 * DEVIATIONS * np.random.default_rng(9).normal(size=MEANS.shape)
    expected = np.bincount(drawn.argmax(axis=1), minlength=3) / len(MEANS)
    np.testing.assert_allclose(shares("thompson", 0.5), expected, atol=bound)
    np.testing.assert_array_equal(shares("lin_ucb", 1.0), [1, 0, 0])
    np.testing.assert_array_equal(shares("lin_ucb", 0.52), [0, 0, 1])
    np.testing.assert_array_equal(shares("exploit"), [0, 1, 0])
    third = 0.3 / 3
    np.testing.assert_allclose(
        shares("epsilon_greedy", 0.3), [third, 0.7 + third, third], atol=bound
    )
    np.testing.assert_allclose(shares("random"), [1 / 3] * 3, atol=bound)


def _with_variances(policy, means, deviations, rng, parameter):
    return chosen(policy, means, deviations**2, rng, parameter)


def _always_best(policy, means, deviations, rng, parameter):
    return chosen("exploit", means, deviations, rng, parameter)


def _parameter_ignored(policy, means, deviations, rng, parameter):
    return chosen(policy, means, deviations, rng, 1.0)


def test_rules_choose_as_they_should():
    check_rules(chosen)


@pytest.mark.parametrize("wrong", [_with_variances, _always_best, _parameter_ignored])
def test_rule_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_rules(wrong)


def test_rows_of_ads_groups_and_both_are_apart():
    world = bandit_ads.World(SMALL_ADS, np.random.default_rng(0))
    groups, ads = (grid.ravel() for grid in np.indices((3, 6)))
    rows = world.rows(groups, ads)
    assert len(np.unique(rows[:, 0])) == 6 and len(np.unique(rows[:, 1])) == 3
    assert sorted(rows[:, 2]) == list(range(10, 28))
    assert rows.max() == len(world.weights) - 1
    logits = world.logits(rows)
    expected = world.weights[0] + sum(world.weights[rows[:, n]] for n in range(3))
    np.testing.assert_allclose(logits, expected)


def test_ads_are_repeatable_and_a_late_click_changes_the_later_hours_only():
    first, again = (
        bandit_ads.simulated("thompson", SMALL_ADS, 3, 0.5) for _ in range(2)
    )
    assert first.regret == again.regret and 0 < first.regret < 1
    assert 0 <= first.coverage <= 1 and len(first.hourly) == 3
    late = bandit_ads.simulated("thompson", SMALL_ADS, 3, 0.5, delay=3)
    assert late.hourly[0] == first.hourly[0] and late.regret != first.regret


@pytest.mark.parametrize("name", ["random", "disjoint_1", "hybrid_0.3", "bfm"])
def test_learners_earn_less_than_who_knows_the_world(name):
    earned = bandit_tastes.earned(name, SMALL_TASTES, 1)
    best = bandit_tastes.earned("best", SMALL_TASTES, 1)
    assert earned.shape == (2,)
    assert (earned > 0).all() and earned.sum() < best.sum()


def test_hybrid_reads_every_pair_of_group_and_category():
    world = World(SMALL_TASTES, 0)
    learner = bandit_tastes.LEARNERS["hybrid_1"](world, 0)
    x, z = learner.features(np.array([4]), np.array([7]))
    assert x.argmax() == world.group[4] and x.sum() == z.sum() == 1
    assert z.argmax() == world.group[4] * 6 + world.category[7]


def tables():
    """Returns what the figures are made of, by hand: two worlds."""
    regrets = {
        "thompson_0.5": np.array([0.1, 0.2]),
        "thompson_1": np.array([0.3, 0.3]),
        "lin_ucb_1": np.array([0.2, 0.3]),
        "epsilon_greedy_0.01": np.array([0.3, 0.5]),
        "exploit_0": np.array([0.5, 0.5]),
        "random_0": np.array([0.9, 0.8]),
    }
    coverages = {key: np.array([0.9, 1.0]) for key in regrets}
    late = {
        "thompson_1": np.array([0.1, 0.1]),
        "thompson_10": np.array([0.2, 0.2]),
        "lin_ucb_1": np.array([0.1, 0.2]),
        "lin_ucb_10": np.array([0.4, 0.4]),
    }
    earned = {
        "best": np.full((2, 4), 0.8),
        "random": np.full((2, 4), 0.2),
        "bfm": np.array([[0.4] * 4, [0.8] * 4]),
        "disjoint_1": np.full((2, 4), 0.3),
        "hybrid_1": np.full((2, 4), 0.4),
    }
    return regrets, coverages, late, earned


def check_figures(figures):
    values, intervals = figures(*tables())
    expected = {
        "regret_thompson": 0.15,
        "regret_thompson_1": 0.3,
        "lin_ucb_minus_thompson": 0.1,
        "epsilon_greedy_minus_lin_ucb": 0.15,
        "random_minus_epsilon_greedy": 0.45,
        "coverage_thompson": 0.95,
        "regret_thompson_after_10_h": 0.2,
        "lin_ucb_minus_thompson_after_10_h": 0.2,
        "delay_cost_thompson": 0.1,
        "delay_cost_lin_ucb": 0.25,
        "delay_cost_lin_ucb_minus_thompson": 0.15,
        "bfm_over_linucb": 1.5,  # the mean of 1 and 2, over the hybrid
        "share_of_best_bfm": 0.75,
    }
    for key, value in expected.items():
        assert values[key] == pytest.approx(value), key
    np.testing.assert_allclose(intervals["bfm_over_linucb"], (1.0, 2.0))
    np.testing.assert_allclose(intervals["lin_ucb_minus_thompson"], (0.1, 0.1))


def _shuffled(regrets, coverages, late, earned):
    """Differences between worlds that are not the same."""
    moved = {**regrets, "lin_ucb_1": regrets["lin_ucb_1"][::-1]}
    return bandit_regret.figures(moved, coverages, late, earned)


def _over_the_worse(regrets, coverages, late, earned):
    worse = {name: each for name, each in earned.items() if name != "hybrid_1"}
    return bandit_regret.figures(
        regrets, coverages, late, worse | {"hybrid_1": earned["random"]}
    )


def _first_setting(regrets, coverages, late, earned):
    only = {key: each for key, each in regrets.items() if key != "thompson_0.5"}
    return bandit_regret.figures(only, coverages, late, earned)


def test_figures_value():
    check_figures(bandit_regret.figures)


@pytest.mark.parametrize("wrong", [_shuffled, _over_the_worse, _first_setting])
def test_figure_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_what_was_measured_is_kept(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return [1.5, 2.5]

    for _ in range(2):
        assert bandit_regret.kept(tmp_path, "key", measure) == [1.5, 2.5]
    assert len(calls) == 1
    assert json.loads((tmp_path / "key.json").read_text()) == [1.5, 2.5]
