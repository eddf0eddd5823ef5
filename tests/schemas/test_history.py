"""The point-in-time rule, in batches and for one request."""

import numpy as np
import pytest

from schemas.history import history_at, history_spans

# Two users; user 0 has a basket at 2. Rows 3 and 5 are not positive.
USERS = np.array([0, 0, 0, 0, 0, 1, 1])
TIMES = np.array([1, 2, 2, 3, 4, 1, 9])
POSITIVE = np.array([True, True, True, False, True, False, True])


def check_spans(spans):
    """The checker: spans among the positives (rows 0, 1, 2, 4, 6), by hand."""
    start, end = spans(USERS, TIMES, POSITIVE, 2)
    # Row 0 sees none; rows 1 and 2 see row 0; row 3 sees 1 and 2 of three; row 4 too,
    # as row 3 is no positive; user 1 sees none of its own, and none of user 0's.
    assert list(zip(start, end, strict=True)) == [
        (0, 0),
        (0, 1),
        (0, 1),
        (1, 3),
        (1, 3),
        (4, 4),
        (4, 4),
    ]


def test_spans():
    check_spans(history_spans)


def basket_seen(users, timestamps, positive, length):
    return history_spans(users, np.arange(len(timestamps)), positive, length)


def one_user(users, timestamps, positive, length):
    order = np.arange(len(users))
    return history_spans(np.zeros_like(users), order, positive, length)


def unlimited(users, timestamps, positive, length):
    return history_spans(users, timestamps, positive, 10**6)


@pytest.mark.parametrize("wrong", [basket_seen, one_user, unlimited])
def test_span_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_spans(wrong)


def test_a_request_sees_what_a_row_at_that_time_would():
    times, positive = TIMES[:5], POSITIVE[:5]
    start, end = history_spans(USERS[:5], times, positive, 2)
    for row, moment in enumerate(times):
        assert history_at(times, positive, moment, 2) == (start[row], end[row])
    assert history_at(times, positive, 100, 2) == (2, 4)
    assert history_at(times, positive, 0, 2) == (0, 0)
    assert history_at(times[:0], positive[:0], 5, 2) == (0, 0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="`length` should be >= 1. Received: length=0"):
        history_spans(USERS, TIMES, POSITIVE, 0)
    with pytest.raises(ValueError, match="sort the rows by user and timestamp"):
        history_spans(USERS, TIMES[::-1], POSITIVE, 2)


def test_no_rows():
    none = np.zeros(0, np.int64)
    start, end = history_spans(none, none, none.astype(bool), 3)
    assert len(start) == len(end) == 0
