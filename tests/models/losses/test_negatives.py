import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.losses.negatives import draw_uniform, keep_hardest, mixed_log_q
from models.losses.options import SamplingMeasure
from models.losses.softmax import in_batch_softmax_loss, negative_log_likelihood

PRESENCE, COUNT = SamplingMeasure.PRESENCE, SamplingMeasure.EXPECTED_COUNT

# mixed_log_q

SHARE = np.array([0.7, 0.2, 0.1])
BATCH_SIZE, NUM_DRAWN = 3, 2


def _enumerated():
    """Returns (presence, expected count) of each item over all batches and draws.

    Every batch of 3 rows by share, with every pair of uniform draws, weighed by its
    probability.
    """
    presence, count = np.zeros(3), np.zeros(3)
    for batch in itertools.product(range(3), repeat=BATCH_SIZE):
        for drawn in itertools.product(range(3), repeat=NUM_DRAWN):
            probability = SHARE[list(batch)].prod() / 3**NUM_DRAWN
            times = np.bincount(batch + drawn, minlength=3)
            presence += probability * (times > 0)
            count += probability * times
    return presence, count


def check_mixture(mixed):
    presence, count = _enumerated()
    batch_presence = 1 - (1 - SHARE) ** BATCH_SIZE
    for log_q, measure, expected in (
        (np.log(batch_presence), PRESENCE, presence),
        (np.log(BATCH_SIZE * SHARE), COUNT, count),
    ):
        actual = np.exp(mixed(tf.constant(log_q), NUM_DRAWN, 3, measure))
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


WRONG_MIXTURES = {
    "the batch alone": lambda log_q, drawn, items, measure: log_q,
    "the draws alone": lambda log_q, drawn, items, measure: tf.fill(
        [3], np.log(np.float64(drawn / items))
    ),
    "counts for presence": lambda log_q, drawn, items, measure: mixed_log_q(
        log_q, drawn, items, COUNT
    ),
    "presence for counts": lambda log_q, drawn, items, measure: mixed_log_q(
        log_q, drawn, items, PRESENCE
    ),
    "logs added": lambda log_q, drawn, items, measure: log_q + np.log(drawn / items),
}


def test_mixed_log_q_equals_the_enumeration():
    check_mixture(mixed_log_q)


@pytest.mark.parametrize("wrong", WRONG_MIXTURES.values(), ids=WRONG_MIXTURES)
def test_mixture_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_mixture(wrong)


@pytest.mark.parametrize("measure", SamplingMeasure)
def test_mixed_log_q_of_an_item_that_no_batch_holds_is_of_the_draws(measure):
    """1,000 draws of 10M items: 1e-4, less half its square for presence."""
    mixed = mixed_log_q(tf.constant([-np.inf, 0.0], tf.float32), 1000, 10**7, measure)
    expected = {PRESENCE: [1e-4 - 5e-9, 1.0], COUNT: [1e-4, 1 + 1e-4]}[measure]
    np.testing.assert_allclose(mixed, np.log(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("measure", SamplingMeasure)
def test_mixed_log_q_without_draws_is_the_batchs(measure):
    log_q = tf.constant([-3.0, -np.inf])
    np.testing.assert_array_equal(mixed_log_q(log_q, 0, 5, measure), log_q)


def test_mixed_log_q_of_a_catalogue_of_one_item_is_certain():
    mixed = mixed_log_q(tf.constant([-1.0]), 4, 1, PRESENCE)
    np.testing.assert_array_equal(mixed, [0.0])


def test_expected_partition_over_batches_and_draws_is_the_corpus():
    """Unbiased exactly: each copy in the batch and each draw weighs 1 / q."""
    scores = np.array([0.3, -1.2, 2.0])
    log_q = mixed_log_q(np.log(BATCH_SIZE * SHARE), NUM_DRAWN, 3, COUNT).numpy()
    expectation = 0.0
    for batch in itertools.product(range(3), repeat=BATCH_SIZE):
        for drawn in itertools.product(range(3), repeat=NUM_DRAWN):
            probability = SHARE[list(batch)].prod() / 3**NUM_DRAWN
            sample = list(batch + drawn)
            expectation += probability * np.exp(scores - log_q)[sample].sum()
    np.testing.assert_allclose(expectation, np.exp(scores).sum(), rtol=1e-12)


# draw_uniform


def check_draws(draw):
    """Uniform: chi-square of 40,000 draws over 20 items below its 99.99 % quantile."""
    drawn = [draw(20, 400, seed=3, step=tf.constant(step)) for step in range(100)]
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert len(counts) == 20
    assert ((counts - 2000.0) ** 2 / 2000.0).sum() < 50.8
    again = draw(20, 400, seed=3, step=tf.constant(7)).numpy()
    is_repeatable = bool((again == drawn[7].numpy()).all())
    assert is_repeatable
    others = (drawn[8], draw(20, 400, seed=4, step=tf.constant(7)))
    shares_of_equal = [float((again == other.numpy()).mean()) for other in others]
    assert max(shares_of_equal) < 0.15  # 1 in 20 by chance


WRONG_DRAWS = {
    "the same at each step": lambda n, k, seed, step: draw_uniform(n, k, seed, 0),
    "whatever the seed": lambda n, k, seed, step: draw_uniform(n, k, 0, step),
    "never the last item": lambda n, k, seed, step: draw_uniform(n - 1, k, seed, step),
    "not repeatable": lambda n, k, seed, step: tf.random.uniform(
        [k], maxval=n, dtype=tf.int64
    ),
}


def test_draw_uniform_is_uniform_and_a_function_of_seed_and_step():
    check_draws(draw_uniform)


@pytest.mark.parametrize("wrong", WRONG_DRAWS.values(), ids=WRONG_DRAWS)
def test_checker_of_draws_rejects(wrong):
    with pytest.raises(AssertionError):
        check_draws(wrong)


# keep_hardest


def check_hardest(keep):
    """Positives are the diagonal: the lowest, the highest, and one in the middle."""
    inf = np.inf
    logits = tf.constant(
        [[-9.0, 4, 1, 3, 2], [1, 9, -inf, 0, 5], [7, 6, 5, -inf, -inf]], tf.float64
    )
    kept = [[-9.0, 4, -inf, 3, -inf], [1, 9, -inf, -inf, 5], [7, 6, 5, -inf, -inf]]
    np.testing.assert_array_equal(keep(logits, 2), kept)
    equal = tf.ones([2, 5], tf.float64)
    number = np.isfinite(keep(equal, 2)).sum(axis=1)
    np.testing.assert_array_equal(number, [3, 3])  # the positive and two, ties or not


def _threshold(logits, num_hard):
    drop = tf.constant(-np.inf, logits.dtype)
    negatives = tf.linalg.set_diag(logits, tf.fill([logits.shape[0]], drop))
    lowest = tf.math.top_k(negatives, num_hard).values[:, -1:]
    kept = tf.where(negatives >= lowest, logits, drop)
    return tf.linalg.set_diag(kept, tf.linalg.diag_part(logits))


WRONG_HARDEST = {
    "all": lambda logits, num_hard: logits,
    "positive among them": lambda logits, num_hard: tf.where(
        logits >= tf.math.top_k(logits, num_hard).values[:, -1:],
        logits,
        np.float64(-np.inf),
    ),
    "positive counted": lambda logits, num_hard: keep_hardest(logits, num_hard - 1),
    "easiest": lambda logits, num_hard: -keep_hardest(-logits, num_hard),
    "all that tie": _threshold,
}


def test_keep_hardest_keeps_the_positive_and_the_highest():
    check_hardest(keep_hardest)


@pytest.mark.parametrize("wrong", WRONG_HARDEST.values(), ids=WRONG_HARDEST)
def test_hardest_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_hardest(wrong)


def test_keep_hardest_of_more_than_there_are_changes_nothing():
    logits = tf.constant(np.random.default_rng(0).normal(size=(4, 6)))
    np.testing.assert_array_equal(keep_hardest(logits, 100), logits)


def test_keep_hardest_lets_no_gradient_to_what_it_drops():
    logits = tf.constant(np.random.default_rng(1).normal(size=(3, 6)))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        kept = keep_hardest(logits, 2)
        loss = tf.reduce_sum(negative_log_likelihood(kept))
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_array_equal(gradient != 0, np.isfinite(kept))
    assert np.isfinite(gradient).all()


def test_keep_hardest_refuses_none():
    with pytest.raises(ValueError, match=r"`num_hard` should be >= 1. Received: num"):
        keep_hardest(tf.zeros([2, 2]), 0)


def test_loss_chooses_the_hardest_after_correction_and_masking():
    """Scores 5, 4, 3 of the negatives; the first is a copy, the last is rare.

    Corrected by q = 1, 1, 1/100 the last stands above the second.
    """
    queries = tf.constant([[1.0]])
    candidates = tf.constant([[2.0], [5.0], [4.0], [3.0]])
    loss = in_batch_softmax_loss(
        queries,
        candidates,
        candidate_ids=tf.constant([7, 7, 8, 9]),
        log_q=tf.constant(np.log([1.0, 1.0, 1.0, 0.01]), tf.float32),
        num_hard_negatives=1,
    )
    expected = np.log(np.exp(2.0) + 100 * np.exp(3.0)) - 2.0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
