"""Coverage, concentration and popularity of what is recommended, against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.recommended_items import (
    coverage,
    gini,
    mean_percentiles,
    popularity_percentiles,
    recommendation_counts,
)
from tests.models.retrieval import evaluation_reference as reference

COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=12)


def check_counts(count):
    top = np.array([[2, 0], [2, -1], [-1, -1], [2, 4]])
    np.testing.assert_array_equal(count(top, 6), [1, 0, 3, 0, 1, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda top, n: np.bincount(top.ravel() % n, minlength=n),
        lambda top, n: np.bincount(top[top >= 0]),
        lambda top, n: np.bincount(np.unique(top[top >= 0]), minlength=n),
    ],
    ids=["padding is the last item", "too short", "an item counts once"],
)
def test_counts_checker_rejects(wrong):
    check_counts(recommendation_counts)
    with pytest.raises(AssertionError):
        check_counts(wrong)


def check_coverage(cover):
    assert cover(np.array([3, 0, 0, 1])) == 0.5
    assert cover(np.zeros(4, int)) == 0.0


@pytest.mark.parametrize(
    "wrong", [lambda counts: counts.mean(), lambda counts: (counts > 1).mean()]
)
def test_coverage_checker_rejects(wrong):
    check_coverage(coverage)
    with pytest.raises(AssertionError):
        check_coverage(wrong)


def check_gini(concentration):
    # By hand: of one item with all, (N - 1) / N; of [1, 3], differences 0, 2, 2, 0
    # over four pairs, 1 on average, over twice the mean of 2: 1 / 4.
    assert concentration(np.array([0, 0, 8, 0])) == pytest.approx(0.75)
    assert concentration(np.array([5, 5, 5])) == pytest.approx(0.0)
    assert concentration(np.array([3, 1])) == pytest.approx(0.25)
    assert concentration(np.zeros(3, int)) == 0.0
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, size=40)
    assert concentration(counts) == pytest.approx(reference.gini(counts.tolist()))


def _without_the_never_recommended(counts):
    return gini(counts[counts > 0]) if counts.any() else 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        _without_the_never_recommended,
        lambda counts: gini(counts) * len(counts) / (len(counts) - 1),
        lambda counts: 1 - gini(counts),
    ],
    ids=["only what is recommended", "divided by N - 1", "equality"],
)
def test_gini_checker_rejects(wrong):
    check_gini(gini)
    with pytest.raises(AssertionError):
        check_gini(wrong)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_gini_equals_the_mean_difference(counts):
    ours = gini(np.array(counts))
    assert ours == pytest.approx(reference.gini(counts), abs=1e-12)
    assert 0 <= ours < 1


def check_percentiles(percentiles):
    np.testing.assert_allclose(
        percentiles(np.array([5, 0, 0, 2])), [7 / 8, 1 / 4, 1 / 4, 5 / 8]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda counts: counts / counts.max(),
        lambda counts: np.argsort(np.argsort(counts)) / len(counts),
        lambda counts: 1 - popularity_percentiles(counts),
    ],
    ids=["share of the most popular", "ties by row", "upside down"],
)
def test_percentile_checker_rejects(wrong):
    check_percentiles(popularity_percentiles)
    with pytest.raises(AssertionError):
        check_percentiles(wrong)


@settings(max_examples=40, deadline=None)
@given(COUNTS)
def test_percentiles_equal_the_double_loop_and_are_half_on_average(counts):
    ours = popularity_percentiles(np.array(counts))
    expected = [reference.percentile(counts, item) for item in range(len(counts))]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert ours.mean() == pytest.approx(0.5)


def test_mean_percentile_of_a_list_leaves_padding_out():
    percentiles = np.array([0.1, 0.5, 0.9])
    top = np.array([[2, 0], [1, -1], [-1, -1]])
    np.testing.assert_allclose(
        mean_percentiles(top, percentiles), [0.5, 0.5, np.nan], rtol=1e-12
    )
