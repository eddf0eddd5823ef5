"""The estimator and the loss together learn what is true of a world of few items.

Of 12 items a batch of 256 holds nearly all, the popular ones dozens of times: where the
chance of being in a batch says nothing any more and the expected count says all.
"""

import numpy as np
import pytest
import tensorflow as tf

from models.losses.frequency import StreamingFrequencyEstimator
from models.losses.options import SamplingMeasure
from models.losses.softmax import in_batch_softmax_loss
from tests import worlds

WORLD = worlds.PowerLawWorld.make(num_contexts=4, num_items=12, seed=3)
NUM_STEPS, BATCH_SIZE = 400, 256


def by_count_and_presence(estimator, items):
    log_q = estimator(items, training=True)
    return {"log_q": log_q, "positive_log_q": estimator.log_presence(items)}


def by_count_alone(estimator, items):
    return {"log_q": estimator(items, training=True)}


def by_presence_alone(estimator, items):
    estimator(items, training=True)
    return {"log_q": estimator.log_presence(items)}


def refined(estimator, items):
    return {"log_q": estimator(items, training=True), "refined": True}


def _learned_logits(correction):
    """Fits one free logit per (context, item), duplicates of a positive masked."""
    contexts, items = WORLD.events(NUM_STEPS * BATCH_SIZE, seed=5)
    table = tf.Variable(tf.zeros(WORLD.conditional.shape))
    optimizer = tf.keras.optimizers.Adam(0.05)
    optimizer.build([table])
    estimator = StreamingFrequencyEstimator(
        10_007, alpha=0.02, initial_gap=1.0, measure=SamplingMeasure.EXPECTED_COUNT
    )

    @tf.function
    def fit(contexts, items):
        for step in tf.range(NUM_STEPS):
            drawn = items[step]
            with tf.GradientTape() as tape:
                loss = in_batch_softmax_loss(
                    tf.gather(table, contexts[step]),
                    tf.one_hot(drawn, table.shape[1]),
                    drawn,
                    **correction(estimator, drawn),
                )
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    shape = [NUM_STEPS, BATCH_SIZE]
    fit(tf.constant(contexts.reshape(shape)), tf.constant(items.reshape(shape)))
    return table.numpy()


def check_learns_the_conditional(correction):
    learned = _learned_logits(correction)
    for row, weight in enumerate(WORLD.conditional):
        gap = learned[row] - np.log(weight)
        gap -= weight @ gap  # the free constant of a softmax
        assert np.sqrt(weight @ gap**2) < 0.15


@pytest.mark.parametrize("correction", [by_count_and_presence, refined])
def test_loss_learns_the_conditional_from_its_own_estimates(correction):
    check_learns_the_conditional(correction)


@pytest.mark.parametrize("wrong", [by_count_alone, by_presence_alone])
def test_checker_of_learning_rejects(wrong):
    with pytest.raises(AssertionError):
        check_learns_the_conditional(wrong)
