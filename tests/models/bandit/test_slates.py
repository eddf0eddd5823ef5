import itertools

import numpy as np
import pytest

from models.bandit.slates import SlateModel, slate_weights
from tests.models.bandit import off_policy_reference as reference


def _log(seed):
    """Slates of 1 to 4 places, their rows in any order."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 12)
    slates = np.repeat([f"request-{n}" for n in range(12)], sizes)
    positions = np.concatenate([np.arange(size) for size in sizes])
    order = rng.permutation(len(slates))
    return rng.gamma(1.0, 1.0, len(slates)), slates[order], positions[order]


def check_weights(implementation):
    for seed, model in itertools.product(range(3), SlateModel):
        ratios, slates, positions = _log(seed)
        expected = reference.slate_weights(ratios, slates, positions, model.value)
        found = implementation(ratios, slates, positions, model)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def _as(**other):
    """Returns the weights with one model taken for another."""

    def wrong(ratios, slates, positions, model):
        taken = SlateModel(other.get(model.value, model.value))
        return slate_weights(ratios, slates, positions, taken)

    return wrong


WRONG = {
    "cascade taken for independent": _as(cascade="independent"),
    "whole taken for cascade": _as(whole="cascade"),
    "independent multiplied": _as(independent="cascade"),
    "places from the bottom up": lambda r, s, p, m: slate_weights(
        r,
        s,
        np.array([(s == slate).sum() - 1 - q for slate, q in zip(s, p, strict=True)]),
        m,
    ),
}


def test_slate_weights_value():
    check_weights(slate_weights)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_slate_weights_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_weights(wrong)


def _two_places(model, reward):
    """Returns (mean of w r over all slates, mean reward of the target), by enumeration.

    Both policies draw two of three items without replacement.
    """
    rng = np.random.default_rng(3)
    first = {name: rng.dirichlet(np.ones(3)) for name in ("logging", "target")}

    def given(name, above, item):
        return first[name][item] / (1 - first[name][above])

    weighted, true = np.zeros(2), np.zeros(2)
    for a, b in itertools.permutations(range(3), 2):
        earned = np.array([reward(0, a, b), reward(1, a, b)])
        chances = {
            name: np.array([first[name][a], given(name, a, b)]) for name in first
        }
        ratios = chances["target"] / chances["logging"]
        weights = slate_weights(ratios, np.zeros(2), np.arange(2), model)
        weighted += chances["logging"].prod() * weights * earned
        true += chances["target"].prod() * earned
    return weighted, true


def test_cascade_is_unbiased_where_rewards_depend_on_the_items_above():
    weighted, true = _two_places(
        SlateModel.CASCADE,
        lambda place, a, b: [0.3 + 0.1 * a, 0.1 * b + 0.2 * a][place],
    )
    np.testing.assert_allclose(weighted, true, rtol=1e-12)
    weighted, true = _two_places(
        SlateModel.INDEPENDENT, lambda place, a, b: [0.3 + 0.1 * a, 0.1 * b][place]
    )
    assert abs(weighted[1] - true[1]) > 1e-3  # chances given what is above are not its


def test_whole_is_unbiased_where_rewards_depend_on_items_below():
    weighted, true = _two_places(
        SlateModel.WHOLE, lambda place, a, b: 0.1 * a + 0.3 * b
    )
    np.testing.assert_allclose(weighted, true, rtol=1e-12)
    weighted, true = _two_places(
        SlateModel.CASCADE, lambda place, a, b: 0.1 * a + 0.3 * b
    )
    assert abs(weighted[0] - true[0]) > 1e-3


@pytest.mark.parametrize("positions", [[0, 2], [0, 0], [1, 2]])
def test_slates_refuse_a_place_that_is_missing_or_twice(positions):
    with pytest.raises(ValueError, match="slate a should have each place once"):
        slate_weights(
            np.ones(2), np.array(["a", "a"]), np.array(positions), SlateModel.CASCADE
        )
    weights = slate_weights(
        np.ones(2), np.array(["a", "a"]), np.array(positions), SlateModel.INDEPENDENT
    )
    np.testing.assert_array_equal(weights, 1.0)
