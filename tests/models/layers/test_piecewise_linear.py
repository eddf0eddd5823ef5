import numpy as np
import pytest
import tensorflow as tf

from models.layers.piecewise_linear import knot_weights

KNOTS = (-1.0, 0.0, 2.0, 3.0)


def check_by_hand(weights_of):
    values = np.array([[-9.0, -1.0, -0.25], [1.5, 3.0, 7.0]])
    expected = [
        [[1, 0, 0, 0], [1, 0, 0, 0], [0.25, 0.75, 0, 0]],
        [[0, 0.25, 0.75, 0], [0, 0, 0, 1], [0, 0, 0, 1]],
    ]
    np.testing.assert_allclose(weights_of(values, KNOTS), expected, atol=1e-12)


def check_interpolation(weights_of):
    """With a value at each knot, it is NumPy's own interpolation."""
    values = np.linspace(-2, 4, 101)
    table = np.array([5.0, -1.0, 2.0, 0.5])
    np.testing.assert_allclose(
        weights_of(values, KNOTS) @ table, np.interp(values, KNOTS, table), atol=1e-12
    )


def _nearest(values, knots):
    return np.eye(len(knots))[np.abs(np.asarray(knots) - values[..., None]).argmin(-1)]


def _extrapolates(values, knots):
    places = np.asarray(knots)
    place = np.clip(np.searchsorted(places, values) - 1, 0, len(places) - 2)
    share = (values - places[place]) / np.diff(places)[place]
    eye = np.eye(len(places))
    return eye[place] * (1 - share)[..., None] + eye[place + 1] * share[..., None]


def _even_gaps(values, knots):
    even = np.linspace(knots[0], knots[-1], len(knots))
    return knot_weights(values, even).numpy()


@pytest.mark.parametrize("check", [check_by_hand, check_interpolation])
def test_knot_weights_value(check):
    check(lambda values, knots: knot_weights(values, knots).numpy())


@pytest.mark.parametrize("check", [check_by_hand, check_interpolation])
@pytest.mark.parametrize("wrong", [_nearest, _extrapolates, _even_gaps])
def test_knot_weights_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def test_knot_weights_keep_the_type():
    weights = knot_weights(tf.constant([0.5, 9.0], tf.bfloat16), KNOTS)
    assert weights.dtype == tf.bfloat16


@pytest.mark.parametrize("knots", [(), (1.0,), (0.0, 0.0), (1.0, 0.0)])
def test_knot_weights_refuse_knots_that_do_not_ascend(knots):
    with pytest.raises(ValueError, match="`knots` should be two or more, ascending"):
        knot_weights(tf.constant([1.0]), knots)
