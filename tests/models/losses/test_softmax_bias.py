"""Which correction is nearest to the full softmax, by exact enumeration.

A row's expected gradient is summed over every multiset that the other rows of a batch
can hold, weighed by its probability, in a world small enough for that.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from models.losses.softmax import (
    in_batch_softmax_loss,
    refined_negative_log_likelihood,
)

BATCH_SIZE = 10
# Two kinds of users; the rarer one likes most what is rare elsewhere.
USERS = np.array([0.8, 0.2])
CONDITIONAL = np.array([[0.6, 0.25, 0.14, 0.01], [0.2, 0.15, 0.05, 0.6]])
SHARE = USERS @ CONDITIONAL
LOG_PRESENCE = np.log(1 - (1 - SHARE) ** BATCH_SIZE)
LOG_COUNT = np.log(BATCH_SIZE * SHARE)


@functools.cache
def _others():
    """Returns each multiset of the other rows' items, and its probability."""
    size = BATCH_SIZE - 1
    found = list(itertools.combinations_with_replacement(range(len(SHARE)), size))
    orders = [
        math.factorial(size)
        / math.prod(math.factorial(items.count(i)) for i in set(items))
        for items in found
    ]
    items = np.array(found)
    return items, np.array(orders) * SHARE[items].prod(axis=1)


def _expected_gradient(loss, table):
    """Returns the expectation of a row's gradient towards each logit of the table.

    `loss` takes the user's row of the table [1, N], one-hot candidates [C, N] and their
    ids [C], the positive first.
    """
    items, probability = _others()
    num_items = table.shape[1]

    @tf.function
    def gradient(scores, batch):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(scores, tf.one_hot(batch, num_items, dtype=tf.float64), batch)
        return tape.gradient(value, scores)[0]

    out = np.zeros(table.shape)
    for user, positive in np.ndindex(table.shape):
        weight = USERS[user] * CONDITIONAL[user, positive]
        scores = tf.constant(table[[user]])
        for others, chance in zip(items, probability, strict=True):
            batch = tf.constant([positive, *others])
            out[user] += weight * chance * gradient(scores, batch).numpy()
    return out


def _distance(loss, table):
    """Returns how far the expected gradient is from the full softmax's, in L1."""
    full = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True) - CONDITIONAL
    full *= USERS[:, np.newaxis]
    return np.abs(_expected_gradient(loss, table) - full).sum()


def _corrected(log_q, positive_log_q=None, **options):
    def loss(scores, candidates, ids):
        return in_batch_softmax_loss(
            scores,
            candidates,
            ids,
            tf.gather(log_q, ids),
            positive_log_q=(
                None if positive_log_q is None else tf.gather(positive_log_q, ids[:1])
            ),
            **options,
        )

    return loss


PAPER = _corrected(LOG_PRESENCE)
COUNT = _corrected(LOG_COUNT, LOG_PRESENCE)
REFINED = _corrected(LOG_COUNT, refined=True)

TABLES = {
    "at the answer": np.log(CONDITIONAL),
    "away from it": np.log(CONDITIONAL)
    + np.array([[0.5, -0.4, 0.3, 0.6], [-0.7, 0.2, 0.8, -0.3]]),
}


@functools.cache
def _distance_of_the_paper(where):
    return _distance(PAPER, TABLES[where])


def check_nearer_than_the_paper(loss, where):
    """Off by less than half of what the paper's form, presence for all, is off."""
    assert _distance(loss, TABLES[where]) < _distance_of_the_paper(where) / 2


@pytest.mark.parametrize("where", TABLES)
@pytest.mark.parametrize("loss", [COUNT, REFINED], ids=["expected count", "refined"])
def test_gradient_is_nearer_to_the_full_softmax_than_the_papers(loss, where):
    check_nearer_than_the_paper(loss, where)


def _refined_variant(weight):
    def loss(scores, candidates, ids):
        logits = tf.matmul(scores, candidates, transpose_b=True)
        corrected = logits - tf.gather(LOG_COUNT, ids)
        is_negative = tf.not_equal(ids, ids[0])
        rest = tf.reduce_logsumexp(tf.boolean_mask(corrected, is_negative, axis=1))
        return weight(rest - logits[0, 0]) * (rest - logits[0, 0])

    def nothing_but_copies(scores, candidates, ids):
        return tf.cond(
            tf.reduce_any(tf.not_equal(ids, ids[0])),
            lambda: loss(scores, candidates, ids),
            lambda: tf.reduce_sum(scores) * 0,
        )

    return nothing_but_copies


WRONG = {
    "expected count on the positive too": _corrected(LOG_COUNT),
    "refined by presence": _corrected(LOG_PRESENCE, refined=True),
    "refined without its weight": _refined_variant(tf.ones_like),
    "a gradient through the weight": _refined_variant(tf.sigmoid),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_checker_of_nearness_rejects(wrong):
    with pytest.raises(AssertionError):
        check_nearer_than_the_paper(wrong, "at the answer")


# refined_negative_log_likelihood


def check_refined_by_hand(refined):
    """Row 0: 2 against 3 + 1; row 1: 1 against 4 alone; row 2: 5 against nothing."""
    shares = tf.constant([[2, 3, 1], [4, 1, 0], [0, 0, 5]], tf.float64)
    logits = tf.math.log(shares)  # log 0 = -inf
    with tf.GradientTape() as tape:
        tape.watch(logits)
        nll = refined(logits)
    expected = [4 / 6 * np.log(4 / 2), 4 / 5 * np.log(4 / 1), 0.0]
    np.testing.assert_allclose(nll, expected, rtol=1e-12)
    # The softmax of each row less its positive: what the weight is for.
    gradient = [[2 / 6 - 1, 3 / 6, 1 / 6], [4 / 5, 1 / 5 - 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(tape.gradient(nll, logits), gradient, atol=1e-12)


def _plain_refined(weight):
    def refined(logits):
        off = tf.linalg.set_diag(logits, tf.fill([3], np.float64(-np.inf)))
        off = off[:2]
        excess = tf.reduce_logsumexp(off, axis=1) - tf.linalg.diag_part(logits[:2])
        return tf.concat([weight(excess) * excess, [0.0]], axis=0)

    return refined


WRONG_REFINED = {
    "no weight": _plain_refined(tf.ones_like),
    "a gradient through the weight": _plain_refined(tf.sigmoid),
    "the chance of being right": _plain_refined(
        lambda excess: tf.stop_gradient(tf.sigmoid(-excess))
    ),
    "positive in the partition": lambda logits: (
        tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits)
    ),
}


def test_refined_negative_log_likelihood_value():
    check_refined_by_hand(refined_negative_log_likelihood)


@pytest.mark.parametrize("wrong", WRONG_REFINED.values(), ids=WRONG_REFINED)
def test_refined_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_refined_by_hand(wrong)


def test_refined_gradient_is_the_full_softmaxs_when_the_batch_is_the_corpus():
    table = np.random.default_rng(4).normal(size=(5, 5))
    logits = tf.constant(table)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = in_batch_softmax_loss(
            logits, np.eye(5), tf.range(5), np.zeros(5), refined=True
        )
    full = np.exp(table) / np.exp(table).sum(axis=1, keepdims=True) - np.eye(5)
    np.testing.assert_allclose(tape.gradient(loss, logits), full / 5, rtol=1e-10)


def test_positive_log_q_corrects_the_rows_own_column_alone():
    scores = np.log([[2.0, 3.0], [5.0, 7.0]])
    loss = in_batch_softmax_loss(
        scores,
        np.eye(2),
        log_q=np.log([0.5, 0.25]),
        positive_log_q=np.log([0.1, 0.2]),
    )
    expected = -np.log([20 / (20 + 12), 35 / (35 + 10)]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="`positive_log_q` should have rank 1"):
        in_batch_softmax_loss(
            scores, np.eye(2), log_q=np.zeros(2), positive_log_q=np.zeros([2, 1])
        )
