"""Counts and errors beside plain loops, and beside numbers written by hand."""

import numpy as np
import pytest

from models.retrieval.presence import PresenceError, StreamCounts, presence_error

BATCHES = [[b"a", b"b", b"a"], [b"a"], [], [b"c", b"a", b"c"], [b"b", b"a"]]


def check_counts(make):
    counts = make()
    for batch in BATCHES:
        counts.add(batch)
    item_ids, hits = counts.hits()
    assert counts.steps == 4  # a batch without rows is none
    assert dict(zip(item_ids, hits.tolist(), strict=True)) == {
        b"a": 4,
        b"b": 2,
        b"c": 1,
    }


class CountsOccurrences(StreamCounts):
    def add(self, item_ids):
        self.steps += bool(item_ids)
        self._hits.update(item_ids)


class CountsEmptyBatches(StreamCounts):
    def add(self, item_ids):
        super().add(item_ids)
        self.steps += not item_ids


def test_counts_are_of_batches():
    check_counts(StreamCounts)


@pytest.mark.parametrize("wrong", [CountsOccurrences, CountsEmptyBatches])
def test_checker_of_counts_rejects(wrong):
    with pytest.raises(AssertionError):
        check_counts(wrong)


def test_many_items_leave_a_sample_whose_counts_are_exact():
    rng = np.random.default_rng(3)
    counts, exact = StreamCounts(max_items=100), {}
    for _ in range(50):
        batch = [b"%d" % item for item in rng.integers(0, 1000, size=200)]
        counts.add(batch)
        for item in set(batch):
            exact[item] = exact.get(item, 0) + 1
    item_ids, hits = counts.hits()
    assert 25 <= len(item_ids) <= 100
    wrong = [i for i, n in zip(item_ids, hits, strict=True) if exact[i] != n]
    assert not wrong
    assert counts.steps == 50


# Twenty items, from 1 to 20 of 100 batches: two in each decile.
HITS = np.arange(1, 21)
FACTOR = np.where(HITS > 18, 10.0, 1.0) * np.where(HITS == 1, 0.01, 1.0)


def check_error(implementation):
    """Exact but for the two most popular, 10 times too high, and one 100 times too low."""
    error = implementation(np.log(FACTOR * HITS / 100), HITS, 100)
    expected = np.zeros(20)
    expected[[0, 18, 19]] = [-2, 1, 1]
    np.testing.assert_allclose(error.log10, expected, atol=1e-12)
    assert error.mean_abs == pytest.approx(4 / 20)
    assert error.mean_abs_of_hits == pytest.approx((2 * 1 + 19 + 20) / 210)
    deciles = {place: 0.0 for place in range(1, 11)} | {1: 1.0, 10: 1.0}
    assert error.mean_abs_by_decile == pytest.approx(deciles, abs=1e-12)


def in_natural_logs(log_presence, hits, steps):
    return presence_error(log_presence * np.log(10), hits, steps)


def turned_round(log_presence, hits, steps):
    error = presence_error(log_presence, hits, steps)
    return PresenceError(-error.log10, *list(vars(error).values())[1:])


def of_signed_errors(log_presence, hits, steps):
    error = presence_error(log_presence, hits, steps)
    rest = list(vars(error).values())[2:]
    return PresenceError(error.log10, float(error.log10.mean()), *rest)


def least_popular_last(log_presence, hits, steps):
    error = presence_error(log_presence, hits, steps)
    by_decile = {11 - place: mean for place, mean in error.mean_abs_by_decile.items()}
    by_decile[1] /= 2
    return PresenceError(*list(vars(error).values())[:3], by_decile)


def test_error():
    check_error(presence_error)


@pytest.mark.parametrize(
    "wrong", [in_natural_logs, turned_round, of_signed_errors, least_popular_last]
)
def test_checker_of_error_rejects(wrong):
    with pytest.raises(AssertionError):
        check_error(wrong)


def test_items_of_equal_counts_are_in_one_decile():
    error = presence_error(np.log(np.full(30, 0.5)), np.full(30, 5), 10)
    assert error.mean_abs_by_decile == {6: pytest.approx(0.0, abs=1e-12)}
