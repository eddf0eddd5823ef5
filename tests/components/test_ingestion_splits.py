"""Cuts in time from exact ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ingestion.settings import SplitSettings
from components.ingestion.splits import SplitCuts, split_cuts, split_of

SETTINGS = SplitSettings(test_fraction=0.2, eval_fraction=0.25)


def check_cuts(cuts_of):
    """The checker: ten events, then ties over both cuts, by hand."""
    distinct = np.array([5, 1, 4, 2, 3, 10, 9, 8, 7, 6])
    assert cuts_of(distinct, SETTINGS) == SplitCuts(1, 7, 9, 10)
    # Test is 17 to 20; eval the latest 4 of the 16 before, not of all.
    assert cuts_of(np.arange(1, 21), SETTINGS) == SplitCuts(1, 13, 17, 20)
    # Rank 8 of ten is a 3, and so test takes all three of them; of the seven before,
    # the latest two (7 * 0.25 rounded) begin at a 2.
    ties = np.array([1, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    assert cuts_of(ties, SETTINGS) == SplitCuts(1, 2, 3, 3)
    one_moment = np.array([4, 4, 4])
    assert cuts_of(one_moment, SETTINGS) == SplitCuts(4, 4, 4, 4)


def test_cuts():
    check_cuts(split_cuts)


def by_quantile(timestamps, settings):
    cuts = split_cuts(timestamps, settings)
    test_from = np.quantile(timestamps, 1 - settings.test_fraction)
    return SplitCuts(cuts.first, cuts.eval_from, test_from, cuts.last)


def eval_of_all(timestamps, settings):
    cuts = split_cuts(timestamps, settings)
    ordered = np.sort(timestamps)
    share = settings.test_fraction + settings.eval_fraction
    begin = ordered[len(ordered) - round(len(ordered) * share)]
    return SplitCuts(cuts.first, int(begin), cuts.test_from, cuts.last)


def unsorted(timestamps, settings):
    cuts = split_cuts(timestamps, settings)
    begin = timestamps[len(timestamps) - round(len(timestamps) * 0.2)]
    return SplitCuts(cuts.first, cuts.eval_from, int(begin), cuts.last)


@pytest.mark.parametrize("wrong", [by_quantile, eval_of_all, unsorted])
def test_cut_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_cuts(wrong)


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40))
def test_splits_are_in_time_and_never_share_a_moment(moments):
    timestamps = np.array(moments)
    splits = split_of(timestamps, split_cuts(timestamps, SETTINGS))
    for earlier in range(3):
        for later in range(earlier + 1, 3):
            before, after = timestamps[splits == earlier], timestamps[splits == later]
            if len(before) and len(after):
                assert before.max() < after.min()
    assert np.count_nonzero(splits == 2) >= round(len(moments) * 0.2)


def test_no_events():
    assert split_cuts(np.array([]), SETTINGS) == SplitCuts(0, 0, 0, 0)
