"""Runs of neighbouring rows."""

import numpy as np
import pytest

from schemas.runs import first_of_run, same_user_as_above


def check_first_of_run(first):
    """The checker: runs of 1, 3 and 2 rows, by hand."""
    continues = np.array([False, True, True, False, True])
    assert np.asarray(first(continues)).tolist() == [0, 1, 1, 1, 4, 4]
    assert np.asarray(first(continues[:0])).tolist() == [0]


def test_first_of_run():
    check_first_of_run(first_of_run)


def run_number(continues):
    return np.concatenate([[0], np.cumsum(~continues)])


def row_above(continues):
    rows = np.arange(len(continues) + 1)
    rows[1:] -= continues
    return rows


@pytest.mark.parametrize("wrong", [run_number, row_above])
def test_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_first_of_run(wrong)


def test_same_user_as_above():
    users, times = np.array([4, 4, 2, 2]), np.array([8, 8, 1, 3])
    assert same_user_as_above(users, times).tolist() == [True, False, True]
    assert same_user_as_above(users[:1], times[:1]).tolist() == []
    assert same_user_as_above(users[:0], times[:0]).tolist() == []
    with pytest.raises(ValueError, match="sort the rows by user and timestamp"):
        same_user_as_above(users, times[::-1])
