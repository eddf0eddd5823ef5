"""Gradients of micro-batches, and the estimator's steps beside them."""

import numpy as np
import pytest
import tensorflow as tf

from models.losses.accumulation import mean_gradients
from models.losses.frequency import StreamingFrequencyEstimator
from models.losses.softmax import in_batch_softmax_loss
from tests import reference

NUM_USERS, NUM_ITEMS, DIM = 6, 5, 3
USERS = np.array([0, 1, 2, 3, 4, 5, 0, 2])
ITEMS = np.array([1, 2, 1, 4, 1, 3, 0, 0])
REWARDS = np.array([1.0, 0.5, 2.0, 1.0, 1.0, 0.0, 1.0, 3.0])
WARM_UP = [[0, 1, 2], [1, 1, 4], [3, 1, 0]]
TEMPERATURE = 0.5


def _tables():
    rng = np.random.default_rng(6)
    return [
        rng.normal(size=(n, DIM)).astype(np.float32) for n in (NUM_USERS, NUM_ITEMS)
    ]


def _warm(make):
    estimator = make(1009, alpha=0.3, initial_gap=5.0)
    for batch in WARM_UP:
        estimator(tf.constant(batch), training=True)
    return estimator


def _gradients(tables, estimator, rows):
    with tf.GradientTape() as tape:
        loss = in_batch_softmax_loss(
            tf.gather(tables[0], USERS[rows]),
            tf.gather(tables[1], ITEMS[rows]),
            tf.constant(ITEMS[rows]),
            estimator(tf.constant(ITEMS[rows]), training=True),
            tf.constant(REWARDS[rows]),
            TEMPERATURE,
        )
    return tape.gradient(loss, tables)


def accumulated(micro_batches, combine=mean_gradients):
    """Returns the dense gradients, and the estimator after them."""
    tables = [tf.Variable(table) for table in _tables()]
    estimator = _warm(StreamingFrequencyEstimator)
    found = [_gradients(tables, estimator, rows) for rows in micro_batches]
    return [tf.convert_to_tensor(g).numpy() for g in combine(found)], estimator


def _slope_of_the_reference(micro_batches):
    """Returns the gradients of the mean of the two losses by central differences."""
    oracle = reference.GapEstimator(alpha=0.3, initial_gap=5.0)
    for batch in WARM_UP:
        oracle.count(batch)
    log_q = []
    for rows in micro_batches:
        oracle.count(ITEMS[rows])
        log_q.append(oracle.log_q(ITEMS[rows]))
    tables = [table.astype(np.float64) for table in _tables()]

    def loss():
        return np.mean(
            [
                reference.corrected_in_batch_loss(
                    tables[0][USERS[rows]],
                    tables[1][ITEMS[rows]],
                    list(ITEMS[rows]),
                    q,
                    REWARDS[rows],
                    TEMPERATURE,
                )
                for rows, q in zip(micro_batches, log_q, strict=True)
            ]
        )

    out = []
    for table in tables:
        slope = np.zeros_like(table)
        for place in np.ndindex(table.shape):
            middle = table[place]
            table[place] = middle + 1e-5
            above = loss()
            table[place] = middle - 1e-5
            slope[place] = (above - loss()) / 2e-5
            table[place] = middle
        out.append(slope)
    return out, oracle


MICRO_BATCHES = [np.arange(4), np.arange(4, 8)]


def check_two_micro_batches(accumulate):
    """The mean of two gradients at one place, and two steps of the estimator."""
    gradients, estimator = accumulate(MICRO_BATCHES)
    expected, oracle = _slope_of_the_reference(MICRO_BATCHES)
    for actual, slope in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(actual, slope, atol=1e-5)
    assert int(estimator.step) == len(WARM_UP) + 2
    items = np.arange(NUM_ITEMS)
    np.testing.assert_allclose(
        estimator(tf.constant(items)), oracle.log_q(items), rtol=1e-5
    )


WRONG = {
    "one joined batch": lambda batches: accumulated([np.concatenate(batches)]),
    "the sum": lambda batches: accumulated(
        batches,
        lambda found: [2 * tf.convert_to_tensor(g) for g in mean_gradients(found)],
    ),
    "the last alone": lambda batches: accumulated(
        batches, lambda found: mean_gradients(found[-1:])
    ),
    "the first counted twice": lambda batches: accumulated(
        [batches[0], *batches], lambda found: mean_gradients(found[1:])
    ),
}


def test_accumulating_two_micro_batches_gives_the_mean_gradient_and_two_steps():
    check_two_micro_batches(accumulated)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_checker_of_accumulation_rejects(wrong):
    with pytest.raises(AssertionError):
        check_two_micro_batches(wrong)


def test_mean_gradients_keeps_sparse_ones_sparse_and_missing_ones_missing():
    def sparse(values, indices):
        return tf.IndexedSlices(
            tf.constant(values), tf.constant(indices), tf.constant([9, 1])
        )

    dense = tf.constant([[2.0]])
    mean = mean_gradients(
        [
            [sparse([[2.0], [4.0]], [3, 5]), None, dense, sparse([[1.0]], [0])],
            [sparse([[6.0]], [5]), None, 3 * dense, None],
        ]
    )
    assert isinstance(mean[0], tf.IndexedSlices)
    np.testing.assert_array_equal(
        tf.convert_to_tensor(mean[0])[:, 0], [0, 0, 0, 1, 0, 5, 0, 0, 0]
    )
    assert mean[1] is None
    np.testing.assert_array_equal(mean[2], [[4.0]])
    np.testing.assert_array_equal(mean[3].values, [[0.5]])


def test_mean_gradients_refuses_nothing():
    with pytest.raises(ValueError, match="`micro_batches` should hold one or more"):
        mean_gradients([])
