import numpy as np
import pytest
import tensorflow as tf

from models.losses.softmax import (
    mask_accidental_hits,
    mask_known_positives,
    negative_log_likelihood,
)

# mask_accidental_hits


def check_mask(mask):
    """Rows a, b, a against candidates a, b, a, b: a hit has probability exactly 0."""
    logits = tf.constant(np.log([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]))
    ids = tf.constant(["a", "b", "a", "b"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        masked = mask(logits, ids)
        loss = tf.reduce_sum(negative_log_likelihood(masked))
    prob = tf.nn.softmax(masked).numpy()
    expected = [
        [1 / 7, 2 / 7, 0, 4 / 7],
        [5 / 18, 6 / 18, 7 / 18, 0],
        [0, 10 / 33, 11 / 33, 12 / 33],
    ]
    np.testing.assert_allclose(prob, expected, rtol=1e-12)
    hits = np.array(expected) == 0
    assert (prob[hits] == 0.0).all()
    # The gradient of the loss is softmax - one-hot; to a masked logit it is exactly 0.
    gradient = tape.gradient(loss, logits).numpy()
    np.testing.assert_allclose(gradient, expected - np.eye(3, 4), rtol=1e-12)
    assert (gradient[hits] == 0.0).all()


def _hits(ids):
    same = ids[:3, tf.newaxis] == ids[tf.newaxis, :]
    return tf.cast(same, tf.float64) - tf.eye(3, 4, dtype=tf.float64)


WRONG_MASKS = {
    "no mask": lambda s, ids: s,
    "a number that changes nothing": lambda s, ids: s + 1.2e-40 * _hits(ids),
    "smaller, not zero": lambda s, ids: s - 20.0 * _hits(ids),
    "the positive too": lambda s, ids: tf.where(
        ids[:3, tf.newaxis] == ids[tf.newaxis, :], np.float64(-np.inf), s
    ),
    "neighbours in the batch, not in the catalogue": lambda s, ids: tf.where(
        tf.cast(tf.roll(_hits(ids), 1, axis=1), tf.bool), np.float64(-np.inf), s
    ),
}


def test_mask_accidental_hits_gives_zero_probability():
    check_mask(mask_accidental_hits)


@pytest.mark.parametrize("wrong", WRONG_MASKS.values(), ids=WRONG_MASKS)
def test_mask_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_mask(wrong)


def test_mask_accidental_hits_leaves_a_batch_of_distinct_items_alone():
    logits = tf.random.normal([3, 3])
    masked = mask_accidental_hits(logits, tf.constant([7, 8, 9], tf.int64))
    np.testing.assert_array_equal(masked, logits)


def test_mask_accidental_hits_keeps_the_positive_of_a_batch_of_one_item():
    masked = mask_accidental_hits(tf.ones([4, 4]), tf.constant(["x"] * 4))
    np.testing.assert_array_equal(negative_log_likelihood(masked), np.zeros(4))


# mask_known_positives


def check_known_positives(mask):
    """Candidates 7, 8, 9, 8 for users who know {8}, {}, {7, 9, 5} and {8, 8}."""
    known = tf.constant([[0, 0, 8], [0, 0, 0], [7, 9, 5], [0, 8, 8]])
    logits = tf.reshape(tf.range(16.0), [4, 4])
    masked = mask(logits, tf.constant([7, 8, 9, 8]), known).numpy()
    # Row 2 keeps its own positive, 9, and row 3 its own 8 in column 3.
    is_hit = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
    np.testing.assert_array_equal(masked, np.where(is_hit, -np.inf, logits))


def _known(ids, known):
    return tf.reduce_any(ids[tf.newaxis, :, tf.newaxis] == known[:, tf.newaxis, :], 2)


WRONG_KNOWN_MASKS = {
    "no mask": lambda s, ids, known: s,
    "the positive too": lambda s, ids, known: tf.where(_known(ids, known), -np.inf, s),
    "the row's own candidate in another's history": lambda s, ids, known: tf.where(
        tf.linalg.set_diag(tf.transpose(_known(ids, known)), [False] * 4), -np.inf, s
    ),
    "the newest only": lambda s, ids, known: mask_known_positives(
        s, ids, known[:, -1:]
    ),
    "any user's history": lambda s, ids, known: tf.where(
        tf.linalg.set_diag(
            tf.tile(tf.reduce_any(_known(ids, known), 0, keepdims=True), [4, 1]),
            [False] * 4,
        ),
        -np.inf,
        s,
    ),
}


def test_mask_known_positives_value():
    check_known_positives(mask_known_positives)


@pytest.mark.parametrize("wrong", WRONG_KNOWN_MASKS.values(), ids=WRONG_KNOWN_MASKS)
def test_known_positives_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_known_positives(wrong)


@pytest.mark.parametrize("length", [0, 1, 6])
def test_mask_known_positives_equals_comparing_all_with_all(length):
    """Twelve candidates of seven items for eight users, some ids known by none."""
    rng = np.random.default_rng(4)
    ids = rng.integers(1, 8, size=12)
    known = rng.integers(0, 12, size=[8, length])
    logits = rng.normal(size=[8, 12]).astype(np.float32)
    masked = mask_known_positives(tf.constant(logits), tf.constant(ids), known)
    is_hit = (ids[np.newaxis, :, np.newaxis] == known[:, np.newaxis]).any(axis=2)
    is_hit[np.arange(8), np.arange(8)] = False
    np.testing.assert_array_equal(masked, np.where(is_hit, -np.inf, logits))
