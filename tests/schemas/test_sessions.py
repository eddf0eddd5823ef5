"""Sessions, by hand and beside a slow reference."""

import operator

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.sessions import session_starts

GENERATED = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


def slow_starts(users, timestamps, gap, is_over=operator.gt, since_start=False):
    """Returns the first row of each row's session, one row after the other."""
    starts = []
    for row in range(len(users)):
        above = starts[-1] if since_start and starts else row - 1
        if (
            row == 0
            or users[row] != users[row - 1]
            or is_over(timestamps[row] - timestamps[above], gap)
        ):
            starts.append(row)
        else:
            starts.append(starts[-1])
    return starts


def check_by_hand(starts):
    """The checker: gap 10; distances 0, 10, 10, 11 and then another user."""
    users = np.array([3, 3, 3, 3, 3, 1, 1])
    times = np.array([5, 5, 15, 25, 36, 36, 90])
    got = starts(users, times, 10)
    assert np.asarray(got).tolist() == [0, 0, 0, 0, 4, 5, 6]


def check_generated(starts):
    row = st.tuples(st.integers(0, 2), st.integers(0, 30))

    @GENERATED
    @given(st.lists(row, max_size=20), st.integers(0, 6))
    def same_as_the_reference(rows, gap):
        users, times = np.array(sorted(rows), np.int64).reshape(-1, 2).T
        got = np.asarray(starts(users, times, gap))
        assert got.tolist() == slow_starts(users, times, gap)

    same_as_the_reference()


CHECKS = [check_by_hand, check_generated]


@pytest.mark.parametrize("check", CHECKS)
def test_session_starts(check):
    check(session_starts)


def gap_ends_it(users, timestamps, gap):
    return slow_starts(users, timestamps, gap, is_over=operator.ge)


def no_longer_than_the_gap(users, timestamps, gap):
    """Measures from the session's start, which is a limit on its length."""
    return slow_starts(users, timestamps, gap, since_start=True)


def across_users(users, timestamps, gap):
    """A user that comes soon after another goes on with the other's session."""
    return slow_starts(np.zeros_like(users), timestamps, gap)


def fixed_windows(users, timestamps, gap):
    window = timestamps // (gap + 1)
    return slow_starts(users, window, 0)


def one_a_user(users, timestamps, gap):
    return slow_starts(users, timestamps, 10**9)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "wrong",
    [gap_ends_it, no_longer_than_the_gap, across_users, fixed_windows, one_a_user],
)
def test_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_later_events_do_not_move_a_session():
    rng = np.random.default_rng(0)
    users, times = np.zeros(200, np.int64), np.cumsum(rng.integers(0, 20, 200))
    whole = session_starts(users, times, 12)
    assert len(np.unique(whole)) > 20
    for seen in range(1, 200):
        now = session_starts(users[:seen], times[:seen], 12)
        assert now[-1] == whole[seen - 1]


def test_users_may_be_of_any_type():
    names = np.array(["a", "a", "b"])
    assert session_starts(names, np.array([1, 2, 3]), 5).tolist() == [0, 0, 2]


def test_bad_input_is_refused():
    users = np.zeros(2)
    with pytest.raises(
        ValueError, match="`gap_ms` should be >= 0. Received: gap_ms=-1"
    ):
        session_starts(users, np.array([1, 2]), -1)
    with pytest.raises(ValueError, match="sort the rows by user and timestamp"):
        session_starts(users, np.array([2, 1]), 5)


def test_no_rows():
    starts = session_starts(np.zeros(0), np.zeros(0, np.int64), 5)
    assert starts.dtype == np.int64 and len(starts) == 0
