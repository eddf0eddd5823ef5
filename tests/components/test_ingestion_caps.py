"""The cap on a user's day, by hand and beside a slow reference."""

import collections

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from components.ingestion.caps import within_daily_cap

HOUR = 3_600_000
GENERATED = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def slow_kept(users, timestamps, limit):
    """Returns which events are kept, counting up one event after the other."""
    seen = collections.Counter()
    kept = []
    for user, time in zip(users.tolist(), timestamps.tolist(), strict=True):
        day = (user, time // (24 * HOUR))
        seen[day] += 1
        kept.append(seen[day] <= limit)
    return kept


def check_by_hand(kept):
    """The checker: limit 2, over midnight UTC, with a tie at the limit."""
    users = np.array([5, 5, 5, 5, 5, 5, 2, 2])
    times = np.array([20, 23, 23, 24, 24, 47, 24, 47]) * HOUR
    expected = [True, True, False, True, True, False, True, True]
    assert np.asarray(kept(users, times, 2)).tolist() == expected
    # The last ms of a day is of that day.
    times = np.array([1, 24 * HOUR - 1, 24 * HOUR])
    assert np.asarray(kept(np.zeros(3), times, 1)).tolist() == [True, False, True]


def check_generated(kept):
    row = st.tuples(st.integers(0, 2), st.integers(0, 71))

    @GENERATED
    @given(st.lists(row, max_size=30), st.integers(1, 4))
    def same_as_the_reference(rows, limit):
        users, hours = np.array(sorted(rows), np.int64).reshape(-1, 2).T
        got = np.asarray(kept(users, hours * HOUR, limit))
        assert got.tolist() == slow_kept(users, hours * HOUR, limit)

    same_as_the_reference()


CHECKS = [check_by_hand, check_generated]


@pytest.mark.parametrize("check", CHECKS)
def test_within_daily_cap(check):
    check(within_daily_cap)


def one_more(users, timestamps, limit):
    return slow_kept(users, timestamps, limit + 1)


def of_the_whole_log(users, timestamps, limit):
    return slow_kept(users, np.zeros_like(timestamps), limit)


def of_all_users(users, timestamps, limit):
    return slow_kept(np.zeros_like(users), timestamps, limit)


def of_a_local_day(users, timestamps, limit):
    return slow_kept(users, timestamps + 9 * HOUR, limit)


def the_last_of_the_day(users, timestamps, limit):
    return slow_kept(users[::-1], timestamps[::-1], limit)[::-1]


def ties_together(users, timestamps, limit):
    """Keeps all events of the moment at which the limit is met."""
    first = np.searchsorted(users * 10**12 + timestamps, users * 10**12 + timestamps)
    return np.array(slow_kept(users, timestamps, limit), bool)[first]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "wrong",
    [
        one_more,
        of_the_whole_log,
        of_all_users,
        of_a_local_day,
        the_last_of_the_day,
    ],
)
def test_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_generated_checker_rejects_ties_together():
    with pytest.raises(AssertionError):
        check_generated(ties_together)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="`limit` should be >= 1. Received: limit=0"):
        within_daily_cap(np.zeros(2), np.array([1, 2]), 0)
    with pytest.raises(ValueError, match="sort the rows by user and timestamp"):
        within_daily_cap(np.zeros(2), np.array([2, 1]), 5)


def test_no_rows():
    kept = within_daily_cap(np.zeros(0), np.zeros(0, np.int64), 5)
    assert kept.dtype == bool and len(kept) == 0
