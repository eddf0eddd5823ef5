"""Are propensities the frequencies with which items are shown, given those above?"""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.policy import select_slate, slate_propensities
from models.policy_settings import PolicyName, PolicySettings

LOGITS = np.array([0.3, -0.2, 9.0, 0.5, 0.4], np.float32)
IS_CANDIDATE = np.array([True, True, False, True, True])
ITEMS = [0, 1, 3, 4]  # the columns of candidates
KEYS = np.array([11, 2**61, 3, 7, 123456789], np.int64)
NUM_SEEDS = 100_000
NUM_PLACES = 2
POLICIES = {
    "epsilon_greedy": PolicySettings(name=PolicyName.EPSILON_GREEDY, epsilon=0.3),
    "softmax": PolicySettings(name=PolicyName.SOFTMAX, temperature=0.4),
    "softmax with a floor": PolicySettings(
        name=PolicyName.SOFTMAX, temperature=0.4, epsilon=0.2
    ),
}


def _tiled(num_rows):
    """Returns the arguments of both functions but for the seeds."""
    return [
        tf.tile(tf.constant(values)[tf.newaxis], [num_rows, 1])
        for values in (LOGITS, IS_CANDIDATE, KEYS)
    ]


def check_frequencies(select, policy):
    """Every slate of two is as frequent as the product of its propensities.

    Five standard errors of each of twelve frequencies: a right implementation fails
    once in 140,000 runs, and these are always the same.
    """
    seeds = tf.range(NUM_SEEDS, dtype=tf.int64)
    order, propensities, errors, _ = select(
        *_tiled(NUM_SEEDS), seeds, policy, num_places=NUM_PLACES
    )
    order, propensities = order.numpy(), propensities.numpy().astype(np.float64)
    np.testing.assert_array_equal(errors, np.zeros([NUM_SEEDS, len(LOGITS)]))
    np.testing.assert_array_equal(np.sort(order, axis=1)[:1000], [range(5)] * 1000)
    total = 0.0
    for pair in itertools.permutations(ITEMS, NUM_PLACES):
        is_pair = (order[:, :NUM_PLACES] == pair).all(axis=1)
        assert is_pair.any()
        of_pair = propensities[is_pair, :NUM_PLACES]
        np.testing.assert_allclose(of_pair, of_pair[:1].repeat(len(of_pair), 0), 1e-5)
        chance = of_pair[0].prod()
        total += chance
        error = np.sqrt(chance * (1 - chance) / NUM_SEEDS)
        assert abs(is_pair.mean() - chance) < 5 * error, (pair, chance)
    assert total == pytest.approx(1.0, abs=1e-5)


def _rescored(scored):
    """Returns `select_slate` with propensities that a wrong formula gives."""

    def select(logits, is_candidate, keys, seeds, policy, num_places):
        slate = select_slate(logits, is_candidate, keys, seeds, policy, num_places)
        return slate._replace(propensities=scored(slate, policy))

    return select


def _share_of_all(slate, policy):
    """The floor's share among all candidates at every place."""
    places = np.arange(len(LOGITS))
    left = np.maximum(len(ITEMS) - places, 1)
    return slate.propensities + policy.epsilon * (1 / len(ITEMS) - 1 / left)


def _unmixed(slate, policy):
    """The chance that the choice draws it, without the floor."""
    left = np.maximum(len(ITEMS) - np.arange(len(LOGITS)), 1)
    return (slate.propensities - policy.epsilon / left) / (1 - policy.epsilon)


def _other_seeds(select):
    """Coins that are the same for all."""
    return lambda logits, is_candidate, keys, seeds, policy, num_places: select(
        logits, is_candidate, keys, seeds * 0, policy, num_places
    )


WRONG = {
    "the floor among all": _rescored(_share_of_all),
    "without the floor": _rescored(_unmixed),
    "one seed for all": _other_seeds(select_slate),
    "of the place below": _rescored(
        lambda slate, policy: tf.roll(slate.propensities, 1, axis=1)
    ),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_propensities_are_the_frequencies_of_100_000_calls(policy):
    check_frequencies(select_slate, policy)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_frequency_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_frequencies(wrong, POLICIES["epsilon_greedy"])


def check_epsilon_greedy(select):
    """By hand: the best of m left has 1 - epsilon + epsilon / m, the others epsilon / m."""
    policy = PolicySettings(name=PolicyName.EPSILON_GREEDY, epsilon=0.4)
    seeds = tf.range(200, dtype=tf.int64)
    order, propensities, *_ = select(*_tiled(200), seeds, policy)
    for columns, chances in zip(order.numpy(), propensities.numpy(), strict=True):
        left = list(ITEMS)
        for place in range(len(ITEMS)):
            best = max(left, key=lambda column: LOGITS[column])
            expected = 0.4 / len(left) + 0.6 * (columns[place] == best)
            assert chances[place] == pytest.approx(expected, rel=1e-6)
            left.remove(columns[place])
        assert chances[len(ITEMS)] == 0


def test_epsilon_greedy_value():
    check_epsilon_greedy(select_slate)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda *args: _rescored(_share_of_all)(*args, num_places=None),
        lambda *args: _rescored(_unmixed)(*args, num_places=None),
        lambda *args: select_slate(-args[0], *args[1:]),
    ],
)
def test_epsilon_greedy_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_epsilon_greedy(wrong)


def check_given(propensities_of, policy):
    """Of a drawn slate they are its own; of all slates of two, they add up to 1."""
    seeds = tf.range(50, dtype=tf.int64)
    args = [*_tiled(50), seeds]
    slate = select_slate(*args, policy, num_places=NUM_PLACES)
    keys = tf.gather(args[2], slate.order[:, :NUM_PLACES], batch_dims=1)
    given, _ = propensities_of(*args, keys, policy, NUM_PLACES)
    np.testing.assert_allclose(given, slate.propensities[:, :NUM_PLACES], rtol=1e-5)
    pairs = list(itertools.permutations(ITEMS, NUM_PLACES))
    keys = tf.constant([[KEYS[column] for column in pair] for pair in pairs])
    one = [*_tiled(len(pairs)), tf.zeros([len(pairs)], tf.int64)]
    given, _ = propensities_of(*one, keys, policy, NUM_PLACES)
    first = {pair[0]: row[0] for pair, row in zip(pairs, given.numpy(), strict=True)}
    assert sum(first.values()) == pytest.approx(1.0, rel=1e-5)
    assert given.numpy().prod(axis=1).sum() == pytest.approx(1.0, rel=1e-5)


def _ignores_the_above(*args):
    logits, is_candidate, keys, seeds, slate_keys, policy, num_places = args
    places = [
        slate_propensities(
            logits, is_candidate, keys, seeds, slate_keys[:, p : p + 1], policy, 1
        )[0]
        for p in range(num_places)
    ]
    return tf.concat(places, axis=1), None


def _by_column(*args):
    logits, is_candidate, keys, seeds, slate_keys, policy, num_places = args
    return slate_propensities(
        logits, is_candidate, keys[:, ::-1], seeds, slate_keys, policy, num_places
    )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_propensities_of_given_slates(policy):
    check_given(slate_propensities, policy)


@pytest.mark.parametrize("wrong", [_ignores_the_above, _by_column])
def test_given_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_given(wrong, POLICIES["softmax"])


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_what_the_policy_does_not_show_has_propensity_0(policy):
    """No candidate, unknown, shown above already, at a place that is not filled."""
    given = [[KEYS[2], -1, KEYS[0], KEYS[0], KEYS[1]]]
    args = [*_tiled(1), tf.zeros([1], tf.int64), tf.constant(given)]
    propensities, _ = slate_propensities(*args, policy, 4)
    is_shown = propensities[0].numpy() > 0
    assert is_shown.tolist() == [False, False, True, False, False]


def test_greedy_shows_one_slate_only():
    greedy = PolicySettings(name=PolicyName.GREEDY)
    args = [*_tiled(2), tf.range(2, dtype=tf.int64)]
    # Given the best is not above, it is what the second place shows.
    slates = tf.constant([KEYS[[3, 4, 0]], KEYS[[1, 3, 4]]])
    given, _ = slate_propensities(*args, slates, greedy)
    np.testing.assert_array_equal(given, [[1, 1, 1], [0, 1, 1]])


def test_below_the_explored_columns_the_rest_follows_by_logit():
    policy = PolicySettings(name=PolicyName.EPSILON_GREEDY, epsilon=0.9)
    args = [*_tiled(300), tf.range(300, dtype=tf.int64)]
    slate = select_slate(*args, policy, num_explored=2)
    order, propensities = slate.order.numpy(), slate.propensities.numpy()
    assert {tuple(row) for row in order} == {(0, 1, 3, 4, 2), (1, 0, 3, 4, 2)}
    np.testing.assert_array_equal(propensities[:, 1:], [[1, 1, 1, 0]] * 300)
    keys = tf.gather(args[2], slate.order, batch_dims=1)
    given, _ = slate_propensities(*args, keys, policy, num_explored=2)
    np.testing.assert_allclose(given, propensities, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "epsilon", "mend"),
    [("greedy", 0.1, "epsilon_greedy"), ("epsilon_greedy", 0.0, "greedy")],
)
def test_settings_refuse_an_epsilon_that_does_not_fit_the_name(name, epsilon, mend):
    with pytest.raises(ValueError, match=f"`epsilon` should be .* `name: {mend}`"):
        PolicySettings(name=name, epsilon=epsilon)
