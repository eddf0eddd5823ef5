"""Expected counts: how often a batch holds an item, beyond whether it does."""

import numpy as np
import pytest
import tensorflow as tf

from models.losses import frequency
from models.losses.frequency import StreamingFrequencyEstimator, hash_buckets
from models.losses.options import SamplingMeasure
from tests import reference

BATCHES = [[1, 1, 2], [1], [3, 1, 3, 3], [2], [1, 2, 3, 1], [1], [4, 4], [1, 4], [5, 1]]
ITEMS = [1, 2, 3, 4, 5, 6]


class CountOracle(reference.GapEstimator):
    """The gaps of `reference.GapEstimator`, and by the same loops the counts."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean = [{} for _ in self.gap]

    def count(self, batch):
        for row, mean in enumerate(self.mean):
            hits = [self.buckets_of(item)[row] for item in batch]
            for bucket in set(hits):
                seen = hits.count(bucket)
                before = mean.get(bucket, seen)
                mean[bucket] = (1 - self.alpha) * before + self.alpha * seen
        super().count(batch)

    def log_count(self, items):
        return np.log([self._smallest(item) for item in items])

    def _smallest(self, item):
        return min(
            mean.get(bucket, 1) / gap.get(bucket, self.initial_gap)
            for mean, gap, bucket in zip(
                self.mean, self.gap, self.buckets_of(item), strict=True
            )
        )


def _make(make, **arguments):
    return make(measure=SamplingMeasure.EXPECTED_COUNT, **arguments)


def _read(estimator, items=ITEMS):
    return estimator(tf.constant(items, tf.int64), training=False).numpy()


def _count(estimator, batches):
    for batch in batches:
        estimator(tf.constant(batch, tf.int64), training=True)


# Wrong variants: each is ours with one known mistake.


class IgnoresCopies(StreamingFrequencyEstimator):
    def _hit(self, buckets, occurrences):
        super()._hit(buckets, tf.ones_like(occurrences))


class FirstCountIsAveragedWithOne(StreamingFrequencyEstimator):
    def _hit(self, buckets, occurrences):
        is_new = tf.gather(self.last_step, buckets) == 0
        super()._hit(buckets, occurrences)
        seen = tf.cast(occurrences, tf.float32)
        moved = (1 - self.alpha) + self.alpha * seen
        count = tf.where(is_new, moved, tf.gather(self.count, buckets))
        self.count.scatter_update(tf.IndexedSlices(count, buckets))


class MultipliesByTheGap(StreamingFrequencyEstimator):
    def _read(self, buckets, measure):
        gaps, counts = tf.gather(self.gap, buckets), tf.gather(self.count, buckets)
        return tf.reduce_min(tf.math.log(counts) + tf.math.log(gaps), axis=0)


class CountAlone(StreamingFrequencyEstimator):
    def _read(self, buckets, measure):
        return tf.math.log(tf.reduce_min(tf.gather(self.count, buckets), axis=0))


class LargestRatio(StreamingFrequencyEstimator):
    def _read(self, buckets, measure):
        gaps, counts = tf.gather(self.gap, buckets), tf.gather(self.count, buckets)
        return tf.math.log(tf.reduce_max(counts / gaps, axis=0))


class CopiesEndAGapEach(StreamingFrequencyEstimator):
    """Takes each copy in a batch as a batch of its own."""

    def _hit(self, buckets, occurrences):
        step = tf.identity(self.step)
        for copy in range(4):
            once = tf.boolean_mask(buckets, occurrences > copy)
            self.step.assign(step)
            super()._hit(once, tf.ones_like(once))


# Checkers.


def check_against_loops(make):
    estimator = _make(make, num_buckets=10_007, alpha=0.2, initial_gap=7.0)
    oracle = CountOracle(alpha=0.2, initial_gap=7.0)
    for batch in BATCHES:
        actual = estimator(tf.constant(batch, tf.int64), training=True)
        oracle.count(batch)
        np.testing.assert_allclose(actual, oracle.log_count(batch), rtol=1e-5)
    np.testing.assert_allclose(_read(estimator), oracle.log_count(ITEMS), rtol=1e-5)


def check_shared_buckets(make):
    """Two arrays of 3 buckets, against loops over the same buckets."""
    buckets = np.asarray(hash_buckets(tf.range(1, 7, dtype=tf.int64), 3, 2)).T
    estimator = _make(make, num_buckets=3, num_hashes=2, alpha=0.2, initial_gap=7.0)
    oracle = CountOracle(0.2, 7.0, 2, lambda item: list(buckets[item - 1]))
    for batch in BATCHES:
        _count(estimator, [batch])
        oracle.count(batch)
    np.testing.assert_allclose(_read(estimator), oracle.log_count(ITEMS), rtol=1e-5)


def check_periodic_stream(make):
    """A stream whose expected counts are known exactly.

    Item 1 is in every second batch, three times; item 2 in every batch, once; item 3 in
    every fourth, twice; item 4 in every third, once.
    """
    estimator = _make(make, num_buckets=10_007, alpha=0.5)
    for step in range(144):
        batch = [2]
        batch += [1, 1, 1] * (step % 2 == 0) + [3, 3] * (step % 4 == 0)
        batch += [4] * (step % 3 == 0)
        _count(estimator, [batch])
    expected = np.log([3 / 2, 1, 2 / 4, 1 / 3])
    np.testing.assert_allclose(_read(estimator, [1, 2, 3, 4]), expected, atol=1e-5)


CHECKS_AND_WRONG = [
    (
        check_against_loops,
        [IgnoresCopies, FirstCountIsAveragedWithOne, MultipliesByTheGap, CountAlone],
    ),
    (check_shared_buckets, [LargestRatio, IgnoresCopies]),
    (check_periodic_stream, [IgnoresCopies, CountAlone, CopiesEndAGapEach]),
]


@pytest.mark.parametrize("check", [check for check, _ in CHECKS_AND_WRONG])
def test_expected_count(check):
    check(StreamingFrequencyEstimator)


@pytest.mark.parametrize(
    ("check", "wrong"),
    [(check, wrong) for check, variants in CHECKS_AND_WRONG for wrong in variants],
)
def test_expected_count_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


BATCH_SIZE = 64
SHARES = np.array([0.2, 0.05, 0.01])


def check_independent_draws(estimated):
    """64 independent draws a batch: the mean count is 64 p, for head and tail alike.

    3,000 independent items of each share p, 400 steps from an unbiased start. The
    interval is 5 standard errors of their mean, and 2 % for what the logarithm's curve
    adds at this learning rate.
    """
    num_items, alpha = 3000, 0.02
    presence = 1 - (1 - SHARES) ** BATCH_SIZE
    gap = np.repeat(1 / presence, num_items).astype(np.float32)
    count = np.repeat(BATCH_SIZE * SHARES / presence, num_items).astype(np.float32)
    last = np.ones(len(gap), np.int64)
    drawn = np.random.default_rng(3).binomial(
        BATCH_SIZE, np.repeat(SHARES, num_items), size=(400, len(gap))
    )
    for step, occurrences in enumerate(drawn, start=2):
        hit = occurrences > 0
        moved = frequency.next_gap(
            gap[hit], last[hit], tf.constant(step, tf.int64), alpha
        )
        count[hit] = frequency.next_count(
            count[hit], last[hit], occurrences[hit], alpha
        )
        gap[hit], last[hit] = moved, step
    out = np.asarray(estimated(gap[np.newaxis], count[np.newaxis]))
    relative = np.exp(out).reshape(3, num_items) / (BATCH_SIZE * SHARES)[:, np.newaxis]
    error = relative.std(axis=1) / np.sqrt(num_items)
    assert (np.abs(relative.mean(axis=1) - 1) < 5 * error + 0.02).all()
    assert (error < 0.01).all()


def test_expected_count_of_independent_draws():
    check_independent_draws(frequency.log_expected_count)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda gaps, counts: frequency.log_probability(gaps),
        lambda gaps, counts: tf.math.log(counts)[0],
        lambda gaps, counts: 2 * tf.math.log(counts / gaps)[0],
    ],
)
def test_checker_of_independent_draws_rejects(wrong):
    with pytest.raises(AssertionError):
        check_independent_draws(wrong)


def test_presence_is_the_same_whatever_is_measured():
    by_presence = StreamingFrequencyEstimator(1000, alpha=0.2)
    by_count = _make(StreamingFrequencyEstimator, num_buckets=1000, alpha=0.2)
    for estimator in (by_presence, by_count):
        _count(estimator, BATCHES)
    items = tf.constant(ITEMS, tf.int64)
    expected = _read(by_presence)
    np.testing.assert_array_equal(by_presence.log_presence(items), expected)
    np.testing.assert_array_equal(by_count.log_presence(items), expected)
    assert (_read(by_count)[[0, 2, 3]] > expected[[0, 2, 3]]).all()  # have copies


@pytest.mark.parametrize("measure", SamplingMeasure)
def test_log_q_of_drawn_knows_what_no_batch_has_held(measure):
    estimator = StreamingFrequencyEstimator(10_007, num_hashes=2, measure=measure)
    _count(estimator, BATCHES)
    drawn = estimator.log_q_of_drawn(tf.constant(ITEMS, tf.int64)).numpy()
    np.testing.assert_array_equal(drawn[:5], _read(estimator)[:5])
    assert drawn[5] == -np.inf


def test_estimator_refuses_an_unknown_measure():
    with pytest.raises(ValueError, match="'share' is not a valid SamplingMeasure"):
        StreamingFrequencyEstimator(10, measure="share")
