import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.fm_interaction import fm_interaction
from tests import reference


def check_by_hand(interaction):
    """v1 = (1, 2), v2 = (3, 4), v3 = (5, 6): 11 + 17 + 39 = 67."""
    fields = np.array([[[1.0, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [0, 0]]])
    np.testing.assert_allclose(interaction(fields), [67.0, 11.0], rtol=1e-12)


def check_double_loop(interaction):
    fields = np.random.default_rng(0).normal(size=(7, 5, 4))
    np.testing.assert_allclose(
        interaction(fields), reference.fm_pairs(fields), rtol=1e-10
    )


def _without_half(v):
    return np.square(v.sum(1)).sum(-1) - np.square(v).sum((1, 2))


WRONG = {
    "no factor one half": _without_half,
    "pairs of a field with itself": lambda v: 0.5 * np.square(v.sum(1)).sum(-1),
    "signs swapped": lambda v: -0.5 * _without_half(v),
    "neighbouring fields only": lambda v: (v[:, 1:] * v[:, :-1]).sum((1, 2)),
    "summed over the wrong axis": lambda v: 0.5 * _without_half(np.swapaxes(v, 1, 2)),
    "projected": lambda v: 0.5 * 0.7 * _without_half(v),
}


@pytest.mark.parametrize("check", [check_by_hand, check_double_loop])
def test_fm_interaction_value(check):
    check(fm_interaction)


@pytest.mark.parametrize("check", [check_by_hand, check_double_loop])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_fm_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


@settings(max_examples=25, deadline=None)
@given(num_fields=st.integers(1, 6), dim=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_fm_interaction_ignores_the_order_of_fields(num_fields, dim, seed):
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(3, num_fields, dim))
    shuffled = fields[:, rng.permutation(num_fields)]
    np.testing.assert_allclose(
        fm_interaction(shuffled), fm_interaction(fields), rtol=1e-9, atol=1e-9
    )


def test_fm_interaction_of_one_field_is_zero():
    fields = tf.random.normal([4, 1, 8])
    np.testing.assert_allclose(fm_interaction(fields), np.zeros(4), atol=1e-6)


def test_fm_interaction_takes_candidates():
    fields = tf.random.normal([2, 3, 4, 5], dtype=tf.float64)
    expected = reference.fm_pairs(fields.numpy().reshape(6, 4, 5)).reshape(2, 3)
    np.testing.assert_allclose(fm_interaction(fields), expected, rtol=1e-9)


def test_fm_interaction_gradient_of_a_field_is_the_sum_of_the_others():
    fields = tf.constant(np.random.default_rng(0).normal(size=(2, 3, 4)))
    with tf.GradientTape() as tape:
        tape.watch(fields)
        total = tf.reduce_sum(fm_interaction(fields))
    others = fields.numpy().sum(1, keepdims=True) - fields.numpy()
    np.testing.assert_allclose(tape.gradient(total, fields), others, rtol=1e-10)
