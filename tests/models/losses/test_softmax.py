import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.losses.softmax import (
    in_batch_softmax_loss,
    logq_corrected,
    mask_accidental_hits,
    negative_log_likelihood,
)
from tests import reference, worlds

# Four candidates drawn with probability 1/2, 1/4, 1/8, 1/8.
LOG_Q = -np.log(2.0) * np.array([1.0, 2.0, 3.0, 3.0])


def _batch(rng, size=6, dim=3):
    queries, candidates = rng.normal(size=(2, size, dim))
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    return queries, candidates


# logq_corrected


def check_logq_value(correct):
    logits = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, -1.0, 0.5]])
    ln2 = 0.6931471805599453
    expected = [
        [1 + ln2, 2 + 2 * ln2, 3 + 3 * ln2, 4 + 3 * ln2],
        [ln2, 2 * ln2, -1 + 3 * ln2, 0.5 + 3 * ln2],
    ]
    np.testing.assert_allclose(correct(logits, LOG_Q), expected, rtol=1e-12)


def check_partition_is_unbiased(correct):
    """The expected partition over every possible batch is the corpus's partition.

    Each of 5 items is in the batch with its own probability q; all 2^5 batches are
    weighed by their probability, so the equality is exact.
    """
    scores = np.array([0.3, -1.2, 2.0, 0.7, -0.4])
    q = np.array([0.9, 0.5, 0.05, 0.3, 0.7])
    corrected = np.asarray(correct(scores[np.newaxis, :], np.log(q)))[0]
    expectation = 0.0
    for drawn in itertools.product([False, True], repeat=5):
        drawn = np.array(drawn)
        probability = np.prod(np.where(drawn, q, 1 - q))
        expectation += probability * np.exp(corrected[drawn]).sum()
    np.testing.assert_allclose(expectation, np.exp(scores).sum(), rtol=1e-12)


WRONG_CORRECTIONS = {
    "flipped sign": lambda s, lq: s + lq,
    "no correction": lambda s, lq: s,
    "half a correction": lambda s, lq: s - lq / 2,
    "probability for its log": lambda s, lq: s - np.exp(lq),
    "positive left alone": lambda s, lq: (
        s - lq + np.eye(*s.shape) * lq[np.newaxis, : s.shape[1]]
    ),
}


@pytest.mark.parametrize("check", [check_logq_value, check_partition_is_unbiased])
def test_logq_corrected_value(check):
    check(logq_corrected)


@pytest.mark.parametrize("check", [check_logq_value, check_partition_is_unbiased])
@pytest.mark.parametrize("wrong", WRONG_CORRECTIONS.values(), ids=WRONG_CORRECTIONS)
def test_logq_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_logq_corrected_equals_full_softmax_on_a_repeated_corpus():
    """n copies of each item, corrected by log n, are the corpus itself."""
    scores = np.array([0.5, -1.0, 2.0])
    copies = np.array([4, 1, 2])
    drawn = np.repeat(np.arange(3), copies)
    corrected = logq_corrected(scores[drawn][np.newaxis], np.log(copies)[drawn])
    for item in range(3):
        np.testing.assert_allclose(
            tf.reduce_logsumexp(corrected) - scores[item],
            reference.full_softmax_nll(scores, item),
            rtol=1e-12,
        )


def test_logq_corrected_refuses_a_column_vector():
    with pytest.raises(ValueError, match=r"`log_q` should have rank 1.*\(4, 1\)"):
        logq_corrected(tf.zeros([4, 4]), tf.zeros([4, 1]))


# in_batch_softmax_loss


def check_loss(loss):
    rng = np.random.default_rng(1)
    queries, candidates = _batch(rng)
    ids = ["a", "b", "a", "c", "d", "b"]
    log_q = np.log([0.5, 0.1, 0.5, 0.02, 0.3, 0.1])
    rewards = np.array([1.0, 0.5, 0.0, 2.0, 1.0, 0.25])
    expected = reference.corrected_in_batch_loss(
        queries, candidates, ids, log_q, rewards, temperature=0.1
    )
    actual = loss(queries, candidates, tf.constant(ids), log_q, rewards, 0.1)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def check_loss_by_hand(loss):
    """Scores [[1, 0], [0, 1]], temperature 1/2, q = 1/2 and 1/4, rewards 1 and 3.

    Row 0: 2 + ln 2 against 0 + ln 4; row 1: 2 + ln 4 against 0 + ln 2.
    """
    e2 = np.exp(2.0)
    expected = -np.log(2 * e2 / (2 * e2 + 4)) / 2
    expected -= 3 * np.log(4 * e2 / (4 * e2 + 2)) / 2
    eye = np.eye(2)
    actual = loss(
        eye, eye, tf.constant([1, 2]), np.log([0.5, 0.25]), np.array([1.0, 3.0]), 0.5
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def _loss_variant(**changed):
    parts = {
        "correct": logq_corrected,
        "mask": mask_accidental_hits,
        "reduce": lambda nll, r: tf.reduce_mean(r * nll),
        "scale": lambda s, t: s / t,
        **changed,
    }

    def loss(queries, candidates, ids, log_q, rewards, temperature):
        logits = parts["scale"](queries @ candidates.T, temperature)
        logits = parts["mask"](parts["correct"](tf.constant(logits), log_q), ids)
        return parts["reduce"](negative_log_likelihood(logits), rewards)

    return loss


WRONG_LOSSES = {
    "flipped sign": _loss_variant(correct=lambda s, lq: s + lq),
    "half a correction": _loss_variant(correct=lambda s, lq: s - lq / 2),
    "negatives corrected only": _loss_variant(
        correct=WRONG_CORRECTIONS["positive left alone"]
    ),
    "correction of the rows": _loss_variant(
        correct=lambda s, lq: s - lq[:, np.newaxis]
    ),
    "sum for mean": _loss_variant(reduce=lambda nll, r: tf.reduce_sum(r * nll)),
    "temperature multiplied": _loss_variant(scale=lambda s, t: s * t),
}
WRONG_ON_DUPLICATES_OR_REWARDS = {
    "no mask": _loss_variant(mask=lambda s, ids: s),
    "rewards dropped": _loss_variant(reduce=lambda nll, r: tf.reduce_mean(nll)),
    "mean over the rewards": _loss_variant(
        reduce=lambda nll, r: tf.reduce_sum(r * nll) / tf.reduce_sum(r)
    ),
}


@pytest.mark.parametrize("check", [check_loss, check_loss_by_hand])
def test_in_batch_softmax_loss_value(check):
    check(in_batch_softmax_loss)


@pytest.mark.parametrize("check", [check_loss, check_loss_by_hand])
@pytest.mark.parametrize("wrong", WRONG_LOSSES.values(), ids=WRONG_LOSSES)
def test_loss_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


@pytest.mark.parametrize(
    "wrong",
    WRONG_ON_DUPLICATES_OR_REWARDS.values(),
    ids=WRONG_ON_DUPLICATES_OR_REWARDS,
)
def test_loss_checker_rejects_on_duplicates_or_rewards(wrong):
    with pytest.raises(AssertionError):
        check_loss(wrong)


def test_in_batch_softmax_loss_equals_full_softmax_when_the_batch_is_the_corpus():
    """Every item is in every batch, so q = 1; a common factor of q changes nothing."""
    queries, items = _batch(np.random.default_rng(2))
    scores = queries @ items.T / 0.2
    expected = np.mean([reference.full_softmax_nll(scores[i], i) for i in range(6)])
    for q in (1.0, 0.01):
        loss = in_batch_softmax_loss(
            queries, items, tf.range(6), np.full(6, np.log(q)), None, 0.2
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_in_batch_softmax_loss_without_options_is_the_plain_softmax():
    queries, items = _batch(np.random.default_rng(3))
    scores = queries @ items.T
    expected = np.mean([reference.full_softmax_nll(scores[i], i) for i in range(6)])
    np.testing.assert_allclose(
        in_batch_softmax_loss(queries, items), expected, rtol=1e-12
    )


def _learned_table(world, log_q):
    """Fits one free logit per (context, item) by the in-batch softmax."""
    num_contexts, num_items = world.conditional.shape
    contexts, items = world.events(400 * 256, seed=5)
    table = tf.Variable(tf.zeros([num_contexts, num_items]))
    optimizer = tf.keras.optimizers.Adam(0.05)

    @tf.function
    def fit(contexts, items):
        for context, item in zip(contexts, items, strict=True):
            with tf.GradientTape() as tape:
                loss = in_batch_softmax_loss(
                    tf.gather(table, context),
                    tf.one_hot(item, num_items),
                    log_q=None if log_q is None else tf.gather(log_q, item),
                )
            optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    optimizer.build([table])
    for row in range(0, 400, 10):
        rows = slice(row * 256, (row + 10) * 256)
        fit(
            tf.unstack(tf.constant(contexts[rows].reshape(10, 256))),
            tf.unstack(tf.constant(items[rows].reshape(10, 256))),
        )
    return table.numpy()


def check_learns_the_conditional(log_q_of):
    """On the power-law world the learned logits are log P(item | context) + c."""
    world = worlds.PowerLawWorld.make(num_contexts=4, num_items=12, seed=3)
    # A batch holds popularity * 256 copies of an item on average.
    learned = _learned_table(world, log_q_of(np.log(256 * world.popularity)))
    expected = np.log(world.conditional)
    for row in range(4):
        gap = learned[row] - expected[row]
        weight = world.conditional[row]
        gap -= weight @ gap  # the free constant of a softmax
        assert np.sqrt(weight @ gap**2) < 0.15


def test_corrected_loss_learns_the_conditional_on_the_power_law_world():
    check_learns_the_conditional(lambda log_q: log_q.astype(np.float32))


@pytest.mark.parametrize(
    "wrong", [lambda log_q: None, lambda log_q: (log_q / 2).astype(np.float32)]
)
def test_power_law_checker_rejects_too_little_correction(wrong):
    with pytest.raises(AssertionError):
        check_learns_the_conditional(wrong)


@settings(max_examples=25, deadline=None)
@given(
    shift=st.floats(-50, 50),
    row=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_negative_log_likelihood_ignores_a_constant_added_to_a_row(shift, row, seed):
    logits = np.random.default_rng(seed).normal(size=(5, 5))
    shifted = logits.copy()
    shifted[row] += shift
    np.testing.assert_allclose(
        negative_log_likelihood(shifted), negative_log_likelihood(logits), atol=1e-10
    )


FAR_APART = np.array([[0.5, -900.0, 0.5], [800.0, 1.0, -np.inf], [2.0, 1.0, 3.0]])


def check_gradient_of_weighed_rows(nll):
    """Rows of weights 2, 3 and 0, logits that no exponential holds, and a dropped one."""
    logits = tf.Variable(FAR_APART)
    with tf.GradientTape() as tape:
        values = nll(tf.convert_to_tensor(logits))
        loss = tf.reduce_sum(values * [2.0, 3.0, 0.0])
    np.testing.assert_allclose(values[:2], [np.log(2), 799.0], rtol=1e-12)
    expected = [[2 * (0.5 - 1), 0, 2 * 0.5], [3.0, -3.0, 0], [0, 0, 0]]
    gradient = tape.gradient(loss, logits)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-300)


def _with_gradient(gradient_of):
    @tf.custom_gradient
    def nll(logits):
        probability = tf.nn.softmax(logits)
        own = negative_log_likelihood(logits)
        return own, lambda upstream: gradient_of(probability, upstream[:, tf.newaxis])

    return nll


WRONG_NLLS = {
    "the log of a rounded probability": lambda s: (
        -tf.math.log(tf.linalg.diag_part(tf.nn.softmax(s)))
    ),
    "no weights": _with_gradient(lambda p, up: p - np.eye(3)),
    "the positive unweighed": _with_gradient(lambda p, up: p * up - np.eye(3)),
    "no positive": _with_gradient(lambda p, up: p * up),
}


def test_negative_log_likelihood_has_the_gradient_of_weighed_rows():
    check_gradient_of_weighed_rows(negative_log_likelihood)


@pytest.mark.parametrize("wrong", WRONG_NLLS.values(), ids=WRONG_NLLS)
def test_gradient_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_gradient_of_weighed_rows(wrong)


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    seed=st.integers(0, 2**16),
)
def test_in_batch_softmax_loss_equals_reference_and_ignores_row_order(ids, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = _batch(rng, size=len(ids))
    log_q = -rng.uniform(0, 5, size=4)[ids]
    rewards = rng.uniform(0, 2, size=len(ids))
    order = rng.permutation(len(ids))
    expected = reference.corrected_in_batch_loss(
        queries, candidates, ids, log_q, rewards, 0.3
    )
    for rows in (np.arange(len(ids)), order):
        loss = in_batch_softmax_loss(
            queries[rows],
            candidates[rows],
            tf.constant(np.array(ids)[rows]),
            log_q[rows],
            rewards[rows],
            0.3,
        )
        np.testing.assert_allclose(loss, expected, rtol=1e-9, atol=1e-12)


def test_in_batch_softmax_loss_has_a_finite_gradient_when_every_item_is_the_same():
    queries = tf.Variable(tf.math.l2_normalize(tf.random.normal([4, 3]), 1))
    with tf.GradientTape() as tape:
        loss = in_batch_softmax_loss(
            queries, queries, tf.constant(["x"] * 4), tf.zeros(4), tf.ones(4), 0.05
        )
    gradient = tf.convert_to_tensor(tape.gradient(loss, queries))
    assert float(loss) == 0.0
    assert np.isfinite(gradient).all()


def test_in_batch_softmax_loss_leaves_known_positives_out():
    """Row 0 knows item 2, so only its own item is left to it: a loss of 0."""
    eye = tf.eye(2)
    ids = tf.constant([1, 2])
    loss = in_batch_softmax_loss(
        eye, eye, known_positives=(ids, tf.constant([[2, 0], [0, 0]]))
    )
    expected = (0.0 + reference.full_softmax_nll(np.array([0.0, 1.0]), 1)) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -0.1])
def test_in_batch_softmax_loss_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValueError, match=r"`temperature` should be > 0. Received"):
        in_batch_softmax_loss(tf.eye(2), tf.eye(2), temperature=temperature)


def test_in_batch_softmax_loss_refuses_rewards_of_rank_two():
    with pytest.raises(ValueError, match=r"`rewards` should have rank 1"):
        in_batch_softmax_loss(tf.eye(2), tf.eye(2), rewards=tf.ones([2, 1]))


def check_correction_gradient(correct):
    """What is subtracted is constant, so the gradient is that of the logits as they are."""
    rng = np.random.default_rng(11)
    logits = tf.Variable(rng.normal(size=(3, 5)).astype(np.float32))
    log_q, positive = (
        tf.constant(rng.normal(size=size), tf.float32) for size in (5, 3)
    )
    upstream = rng.normal(size=(3, 5)).astype(np.float32)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(correct(logits, log_q, positive) * upstream)
    np.testing.assert_allclose(tape.gradient(total, logits), upstream, rtol=1e-6)


def test_correction_passes_the_gradient_through():
    check_correction_gradient(logq_corrected)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits, log_q, own: tf.linalg.set_diag(logits - log_q, -own),
        lambda logits, log_q, own: logits * (1 - log_q),
    ],
    ids=["the diagonal's is lost", "multiplied, not subtracted"],
)
def test_correction_gradient_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_correction_gradient(wrong)
