"""Caps and diversity: what may stand below what, and whether propensities stay true."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.policy import SlateRules, select_slate, slate_propensities, within_caps
from models.policy_settings import PolicyName, PolicySettings

LOGITS = np.array([0.9, 0.7, 9.0, 0.5, 0.4, 0.1], np.float32)
IS_CANDIDATE = np.array([True, True, False, True, True, True])
ITEMS = [0, 1, 3, 4, 5]
KEYS = np.array([11, 2**61, 3, 7, 123456789, 42], np.int64)
# Genres of the first column's feature, a brand of the second's.
VALUES = np.array([[0, 5], [0, 6], [0, 5], [1, 5], [1, -1], [-1, -1]], np.int32)
LIMITS = (1, 2)
VECTORS = np.array(
    [[1, 0], [0.9, 0.1], [1, 0], [0, 1], [0.6, 0.8], [-1, 0.2]], np.float32
)
NUM_SEEDS, NUM_PLACES = 100_000, 3
DIVERSE = {"relevance": 0.6}
WEIGHT = 0.4 / 0.6


def policy_of(name, **changes):
    return PolicySettings(name=name, temperature=0.4, **changes)


POLICIES = {
    "epsilon greedy": policy_of("epsilon_greedy", epsilon=0.3),
    "softmax": policy_of("softmax"),
    "softmax with a floor": policy_of("softmax", epsilon=0.2),
    "diverse epsilon greedy": policy_of(
        "epsilon_greedy", epsilon=0.3, diversity=DIVERSE
    ),
    "diverse softmax": policy_of("softmax", diversity=DIVERSE),
}


def arguments(num_rows, policy, beliefs=None):
    """Returns the arguments of both functions, by name, but for the seeds."""

    def tiled(values):
        return tf.tile(tf.constant(values)[tf.newaxis], [num_rows, *[1] * values.ndim])

    return {
        "logits": tiled(LOGITS),
        "is_candidate": tiled(IS_CANDIDATE),
        "item_keys": tiled(KEYS),
        "seeds": tf.range(num_rows, dtype=tf.int64),
        "settings": policy,
        "num_places": NUM_PLACES,
        "rules": SlateRules(policy, tiled(VALUES), LIMITS, tiled(VECTORS)),
        "beliefs": beliefs and {key: tiled(v) for key, v in beliefs.items()},
    }


def is_allowed(columns):
    """By hand: at most one item of a genre, at most two of a brand."""
    of_columns = VALUES[list(columns)]
    return all(
        (of_columns[:, column] == value).sum() <= limit
        for column, limit in enumerate(LIMITS)
        for value in range(9)
    )


def check_frequencies(select, propensities_of, policy):
    """Each allowed slate of three is as frequent as the product of its propensities.

    Five standard errors of each frequency.
    """
    slate = select(**arguments(NUM_SEEDS, policy))
    order = slate.order.numpy()[:, :NUM_PLACES]
    chances = slate.propensities.numpy().astype(np.float64)[:, :NUM_PLACES]
    total = 0.0
    slates = list(itertools.permutations(ITEMS, NUM_PLACES))
    allowed = [columns for columns in slates if is_allowed(columns)]
    assert 0 < len(allowed) < len(slates)
    keys = tf.constant(KEYS[np.array(slates)])
    of_given, _ = propensities_of(**arguments(len(slates), policy), slate_keys=keys)
    for columns, given_chances in zip(slates, of_given.numpy(), strict=True):
        is_it = (order == columns).all(axis=1)
        chance = given_chances.astype(np.float64).prod()
        total += chance
        error = np.sqrt(chance * (1 - chance) / NUM_SEEDS)
        assert abs(is_it.mean() - chance) <= 5 * error, (columns, chance)
        if is_it.any():
            assert columns in allowed
            own = chances[is_it]
            np.testing.assert_allclose(own, [given_chances] * len(own), rtol=1e-5)
    assert total == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_propensities_are_the_frequencies_of_100_000_calls(policy):
    check_frequencies(select_slate, slate_propensities, policy)


def _without(*names):
    """Returns the functions as if the rules lacked something."""

    def changed(function):
        def call(**arguments):
            policy = arguments["settings"]
            told = {"values": None, "vectors": None} | {
                key: getattr(arguments["rules"], f"_{key}")
                for key in ("values", "vectors")
                if key not in names
            }
            limits = LIMITS if told["values"] is not None else ()
            rules = SlateRules(policy, told["values"], limits, told["vectors"])
            return function(**{**arguments, "rules": rules})

        return call

    return changed


class _OldNoise(SlateRules):
    """The noise of the first place at all of them, though logits change."""

    has_diversity = False


def _old_noise(**arguments):
    rules = arguments["rules"]
    rules = _OldNoise(
        arguments["settings"], rules._values, LIMITS, arguments["rules"]._vectors
    )
    return select_slate(**{**arguments, "rules": rules})


WRONG = {
    "shown without caps": (
        "softmax",
        _without("values")(select_slate),
        slate_propensities,
    ),
    "propensities without caps": (
        "epsilon greedy",
        select_slate,
        _without("values")(slate_propensities),
    ),
    "propensities without diversity": (
        "diverse softmax",
        select_slate,
        _without("vectors")(slate_propensities),
    ),
    "old noise": ("diverse softmax", _old_noise, slate_propensities),
}


@pytest.mark.parametrize(
    ("name", "select", "propensities_of"), WRONG.values(), ids=WRONG
)
def test_frequency_checker_rejects(name, select, propensities_of):
    with pytest.raises(AssertionError):
        check_frequencies(select, propensities_of, POLICIES[name])


BELIEFS = {
    "means": LOGITS,
    "deviations": np.array([0.4, 1.2, 3.0, 0.7, 0.5, 0.6], np.float32),
}
THOMPSON = policy_of("thompson", draw="logit", propensity_samples=8, diversity=DIVERSE)


def check_thompson(propensities_of):
    """The shares of pairs are the mean of the estimates' products, within 5 errors."""
    slate = select_slate(**arguments(NUM_SEEDS, THOMPSON, BELIEFS))
    order = slate.order.numpy()[:, :2]
    num_estimates = 2000
    for pair in itertools.permutations(ITEMS, 2):
        share = (order == pair).all(axis=1).mean()
        keys = tf.tile(tf.constant(KEYS[[list(pair)]]), [num_estimates, 1])
        estimates, _ = propensities_of(
            **arguments(num_estimates, THOMPSON, BELIEFS), slate_keys=keys
        )
        chances = estimates.numpy().prod(axis=1)
        error = np.hypot(
            np.sqrt(share * (1 - share) / NUM_SEEDS),
            chances.std() / np.sqrt(num_estimates),
        )
        assert abs(share - chances.mean()) <= 5 * error, (pair, share, chances.mean())


def test_thompson_has_true_propensities_under_rules():
    check_thompson(slate_propensities)


@pytest.mark.parametrize("name", ["values", "vectors"])
def test_thompson_checker_rejects(name):
    with pytest.raises(AssertionError):
        check_thompson(_without(name)(slate_propensities))


def check_mmr(select):
    """By hand: at each place the best of relevance * logit - (1 - relevance) * cosine."""
    policy = policy_of("greedy", diversity=DIVERSE)
    slate = select(**{**arguments(1, policy), "num_places": None})
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    shown = []
    while left := [c for c in ITEMS if c not in shown and is_allowed([*shown, c])]:

        def value(column):
            nearest = max((unit[column] @ unit[above] for above in shown), default=0)
            return 0.6 * LOGITS[column] - 0.4 * nearest

        shown.append(max(left, key=value))
    assert shown != sorted(shown)  # logits alone, under the caps, come by column
    assert slate.order.numpy()[0, : len(shown)].tolist() == shown
    number = len(ITEMS) + 1 - len(shown)
    is_shown = [True] * len(shown) + [False] * number
    assert slate.is_shown.numpy()[0].tolist() == is_shown
    np.testing.assert_array_equal(slate.propensities[0], is_shown)


def test_mmr_value():
    check_mmr(select_slate)


@pytest.mark.parametrize("name", ["values", "vectors"])
def test_mmr_checker_rejects(name):
    with pytest.raises(AssertionError):
        check_mmr(_without(name)(select_slate))


def _one_by_one(values, limits):
    """Returns which items of an order are taken, each if the caps still allow it."""
    seen, taken = {}, []
    for item in values:
        own = [(v, limits[c]) for c, v in enumerate(item) if v >= 0]
        fits = all(seen.get(value, 0) < limit for value, limit in own)
        taken.append(fits)
        for value, _ in own if fits else ():
            seen[value] = seen.get(value, 0) + 1
    return taken


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 3), st.integers(1, 12))
def test_within_caps_takes_what_going_one_by_one_takes(seed, limit, num_items):
    values = np.random.default_rng(seed).integers(-1, 4, [2, num_items, 1])
    fits = within_caps(tf.constant(values, tf.int32), tf.constant([limit]))
    for row in range(2):
        assert fits[row].numpy().tolist() == _one_by_one(values[row], [limit])


@pytest.mark.parametrize(
    ("name", "places", "explored"),
    [
        ("greedy", None, None),
        ("softmax with a floor", None, None),
        ("diverse softmax", None, 7),
        ("epsilon greedy", 3, None),
    ],
)
def test_a_slate_keeps_to_the_caps_and_shows_all_that_it_can(name, places, explored):
    """Whatever is drawn, and below the places that are: with several values an item."""
    rng = np.random.default_rng(3)
    num_items, limits = 30, (2, 2, 3)
    values = rng.integers(0, 6, [num_items, 3])
    values[:, 2] = 10 + values[:, 2] % 2
    values[rng.random(values.shape) < 0.2] = -1
    values[:, 1][values[:, 0] == values[:, 1]] = -1
    is_candidate = rng.random([1, num_items]) < 0.9
    policy = POLICIES.get(name, PolicySettings(name=PolicyName.GREEDY))
    slate = select_slate(
        tf.constant(rng.normal(size=[1, num_items]), tf.float32),
        tf.constant(is_candidate),
        tf.constant(rng.integers(0, 2**62, [1, num_items])),
        tf.constant([5], tf.int64),
        policy,
        places,
        explored,
        rules=SlateRules(
            policy,
            tf.constant(values[np.newaxis], tf.int32),
            limits,
            tf.constant(rng.normal(size=[1, num_items, 4]), tf.float32),
        ),
    )
    order, is_shown = slate.order.numpy()[0], slate.is_shown.numpy()[0]
    shown = order[is_shown]
    assert sorted(order) == list(range(num_items))
    assert is_shown.tolist() == sorted(is_shown.tolist(), reverse=True)
    assert is_candidate[0, shown].all() and 5 < len(shown) < is_candidate.sum()
    chances = slate.propensities.numpy()[0]
    assert (chances[is_shown] > 0).all() and not chances[~is_shown].any()
    # Both columns of the first feature have the same limit, so counts are of the value.
    counts = np.bincount(values[shown][values[shown] >= 0], minlength=20)
    is_full = counts >= np.where(np.arange(20) < 10, 2, 3)
    assert counts[:10].max() == 2 and counts[10:].max() == 3
    if places is None:  # nobody left out has a value that is free
        for column in set(np.flatnonzero(is_candidate[0])) - set(shown):
            assert is_full[values[column][values[column] >= 0]].any()


def test_below_the_drawn_places_the_caps_hold_and_propensities_are_1():
    policy = policy_of("greedy")
    args = arguments(1, policy)
    args["num_places"] = 1
    slate = select_slate(**args)
    # Of genre 0 item 0, of genre 1 item 3, which takes the last place of brand 5.
    assert slate.order.numpy()[0, :3].tolist() == [0, 3, 5]
    assert slate.is_shown.numpy()[0].tolist() == [True] * 3 + [False] * 3
    given_keys = tf.constant(KEYS[[[0, 3, 5]]])
    args["num_places"] = 3
    chances, _ = slate_propensities(**args, slate_keys=given_keys)
    np.testing.assert_array_equal(chances, [[1, 1, 1]])
    chances, _ = slate_propensities(**args, slate_keys=tf.constant(KEYS[[[0, 1, 3]]]))
    np.testing.assert_array_equal(chances, [[1, 0, 1]])
