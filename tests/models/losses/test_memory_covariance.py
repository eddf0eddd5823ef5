import numpy as np
import pytest
import tensorflow as tf

from models.losses.memory_covariance import covariance_norm, covariance_square
from tests import reference_memory


def memories():
    rng = np.random.default_rng(0)
    found = rng.normal(size=[5, 4, 6])
    found[1, 2] = 0.0  # a slot not yet written
    found[3] = 0.0  # a user without events
    return found


# Two slots: -1, 1 and -2, 2 about their means. C = [[1, 2], [2, 4]].
BY_HAND = np.array([[[4.0, 6.0], [1.0, 5.0]]])


def check_norm(penalty):
    """The checker of the code's form: sqrt(2^2 + 2^2) by hand."""
    np.testing.assert_allclose(penalty(tf.constant(BY_HAND)), np.sqrt(8.0), rtol=1e-12)
    expected = reference_memory.covariance_norm(memories())
    np.testing.assert_allclose(penalty(tf.constant(memories())), expected, rtol=1e-12)


def check_square(penalty):
    """The checker of the paper's form: (2^2 + 2^2) / 2 by hand."""
    np.testing.assert_allclose(penalty(tf.constant(BY_HAND)), 4.0, rtol=1e-12)
    expected = reference_memory.covariance_square(memories())
    np.testing.assert_allclose(penalty(tf.constant(memories())), expected, rtol=1e-12)


def over_the_batch(memory):
    """The mean of a unit over the slots, instead of a slot's over its units."""
    return covariance_norm(memory - tf.reduce_mean(memory, axis=1, keepdims=True))


def mean_of_batch(memory):
    return covariance_norm(memory) / len(memory)


def with_diagonal(memory):
    centred = memory - tf.reduce_mean(memory, axis=-1, keepdims=True)
    covariance = tf.matmul(centred, centred, transpose_b=True) / memory.shape[-1]
    return tf.reduce_sum(tf.norm(covariance, axis=[1, 2]))


def not_centred(memory):
    product = tf.matmul(memory, memory, transpose_b=True) / memory.shape[-1]
    off = tf.linalg.set_diag(product, tf.zeros_like(product[..., 0]))
    return 0.5 * tf.reduce_sum(tf.square(off))


def test_norm_equals_the_code_s_form():
    check_norm(covariance_norm)


@pytest.mark.parametrize(
    "wrong", [over_the_batch, mean_of_batch, with_diagonal, covariance_square]
)
def test_norm_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_norm(wrong)


def test_square_equals_the_paper_s_form():
    check_square(covariance_square)


@pytest.mark.parametrize(
    "wrong",
    [not_centred, lambda memory: 2 * covariance_square(memory), covariance_norm],
)
def test_square_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_square(wrong)


@pytest.mark.parametrize("penalty", [covariance_norm, covariance_square])
def test_penalty_is_zero_only_for_slots_that_do_not_covary(penalty):
    apart = tf.constant([[[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]])
    assert penalty(apart) == 0
    assert penalty(apart + tf.constant([0.0, 0.1, 0.0, 0.0])) > 0
    assert penalty(apart[:, :1]) == 0  # a single slot


@pytest.mark.parametrize("penalty", [covariance_norm, covariance_square])
def test_gradient_is_finite_where_nothing_was_written(penalty):
    memory = tf.constant(memories())
    with tf.GradientTape() as tape:
        tape.watch(memory)
        value = penalty(memory)
    gradient = tape.gradient(value, memory).numpy()
    assert np.isfinite(gradient).all() and not gradient[3].any() and gradient[0].any()
