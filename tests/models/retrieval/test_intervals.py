"""Intervals by drawing users: of several figures and of groups of events at once."""

import numpy as np
import pytest

from models.retrieval.intervals import UserBootstrap

NUM_USERS = 60


def world():
    """Returns users, two figures and three groups; group 2 has no event, -1 is none."""
    rng = np.random.default_rng(2)
    users = rng.integers(NUM_USERS, size=700)
    quality = rng.random(NUM_USERS)[users]
    values = np.stack([rng.random(700) < quality, rng.random(700)], axis=1) * 1.0
    groups = rng.choice([-1, 0, 1, 3], size=700)
    return users, values, groups


def slow_intervals(users, values, groups, num_groups, num_resamples=4000):
    """Draws users with `choice` and averages their events by loops."""
    rng = np.random.default_rng(77)
    distinct = np.unique(users)
    of_user = [np.flatnonzero(users == user) for user in distinct]
    result = np.full((num_groups, values.shape[1], 2), np.nan)
    for group in range(num_groups):
        inside = groups == group
        if not inside.any():
            continue
        sums = np.array([values[rows][inside[rows]].sum(axis=0) for rows in of_user])
        sizes = np.array([inside[rows].sum() for rows in of_user])
        means = []
        for _ in range(num_resamples):
            drawn = rng.choice(len(distinct), len(distinct))
            means.append(sums[drawn].sum(axis=0) / sizes[drawn].sum())
        result[group] = np.percentile(means, [2.5, 97.5], axis=0).T
    return result


USERS, VALUES, GROUPS = world()
EXPECTED = slow_intervals(USERS, VALUES, GROUPS, 4)


def check_intervals(intervals) -> None:
    """A quantile of 1,000 resamples is off by 8 % of the standard error or so."""
    seen = intervals(USERS, VALUES, GROUPS, 4)
    assert seen.shape == (4, 2, 2)
    assert np.isnan(seen[2]).all()
    for group in (0, 1, 3):
        error = (EXPECTED[group, :, 1] - EXPECTED[group, :, 0]) / (2 * 1.96)
        off = np.abs(seen[group] - EXPECTED[group]) / error[:, np.newaxis]
        assert off.max() < 0.35


def _ours(users, values, groups, num_groups):
    return UserBootstrap(users).intervals(values, groups, num_groups)


def _events_drawn(users, values, groups, num_groups):
    return _ours(np.arange(len(users)), values, groups, num_groups)


def _groups_ignored(users, values, groups, num_groups):
    whole = _ours(users, values, np.zeros(len(users), int), 1)
    result = np.repeat(whole, num_groups, axis=0)
    result[2] = np.nan
    return result


def _other_groups_count_as_misses(users, values, groups, num_groups):
    result = np.full((num_groups, values.shape[1], 2), np.nan)
    for group in (0, 1, 3):
        inside = (groups == group)[:, np.newaxis]
        result[group] = UserBootstrap(users).intervals(values * inside)[0]
    return result


def test_intervals_equal_the_slow_reference():
    check_intervals(_ours)


@pytest.mark.parametrize(
    "wrong", [_events_drawn, _groups_ignored, _other_groups_count_as_misses]
)
def test_interval_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_intervals(wrong)


def test_figures_of_one_bootstrap_are_drawn_alike():
    """So the interval of a difference is paired: here it is a point."""
    users = np.arange(50)
    one = np.random.default_rng(1).random(50)
    together = UserBootstrap(users).intervals(np.stack([one, one + 0.25], axis=1))[0]
    np.testing.assert_allclose(together[1] - together[0], 0.25, rtol=1e-12)
    draws = UserBootstrap(users)
    first = draws.intervals(one[:, np.newaxis])
    np.testing.assert_array_equal(draws.intervals(one[:, np.newaxis]), first)


def test_small_chunks_of_draws_give_the_same(monkeypatch):
    whole = _ours(USERS, VALUES, GROUPS, 4)
    monkeypatch.setattr("models.retrieval.intervals._MAX_DRAWN", 7 * NUM_USERS)
    np.testing.assert_allclose(_ours(USERS, VALUES, GROUPS, 4), whole, rtol=1e-12)
    monkeypatch.setattr("models.retrieval.intervals._MAX_DRAWN", 1)
    np.testing.assert_allclose(_ours(USERS, VALUES, GROUPS, 4), whole, rtol=1e-12)


@pytest.mark.parametrize("max_kept", [0, 2**24])
def test_draws_that_are_kept_are_those_that_are_made_again(monkeypatch, max_kept):
    whole = _ours(USERS, VALUES, GROUPS, 4)
    monkeypatch.setattr("models.retrieval.intervals._MAX_KEPT", max_kept)
    draws = UserBootstrap(USERS)
    for _ in range(2):
        again = draws.intervals(VALUES, GROUPS, 4)
        np.testing.assert_array_equal(again, whole)


def test_group_that_some_resamples_miss_has_an_interval_all_the_same():
    users = np.arange(3)
    groups = np.array([0, 1, 1])
    values = np.array([[1.0], [0.0], [1.0]])
    intervals = UserBootstrap(users).intervals(values, groups, 2)
    assert intervals[0, 0].tolist() == [1.0, 1.0]
    assert intervals[1, 0].tolist() == [0.0, 1.0]


def test_weights_of_rows_are_those_that_the_means_were_drawn_with(monkeypatch):
    draws = UserBootstrap(USERS)
    expected = draws.intervals(VALUES)[0]
    monkeypatch.setattr("models.retrieval.intervals._MAX_WEIGHTS", 3 * len(USERS))
    weights = np.concatenate(list(draws.row_weights()))
    assert weights.shape == (1000, len(USERS))
    means = weights @ VALUES / weights.sum(axis=1, keepdims=True)
    seen = np.quantile(means, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(seen, expected, rtol=1e-9)
