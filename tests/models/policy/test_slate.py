import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.policy import gumbel_noise, select_slate
from models.policy_settings import PolicyName, PolicySettings
from tests import reference

GREEDY = PolicySettings(name=PolicyName.GREEDY)
LOGITS = np.array([0.3, -0.2, 0.9, 0.5])
KEYS = np.array([11, 2**61, 7, 123456789], np.int64)


def _softmax(temperature):
    return PolicySettings(name=PolicyName.SOFTMAX, temperature=temperature)


def _slates(select, logits, is_candidate, keys, seeds, temperature):
    order, propensities, *_ = select(
        tf.constant(logits),
        tf.constant(is_candidate),
        tf.constant(keys),
        tf.constant(seeds, tf.int64),
        _softmax(temperature),
    )
    return np.asarray(order), np.asarray(propensities, np.float64)


def check_slates_equal_reference(select):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 6))
    is_candidate = rng.random((40, 6)) < 0.7
    keys = rng.integers(0, 2**62, size=(40, 6))
    seeds = rng.integers(-(2**63), 2**63 - 1, size=40)
    order, propensities = _slates(select, logits, is_candidate, keys, seeds, 0.5)
    for row in range(40):
        shown, expected = reference.softmax_slate(
            logits[row].tolist(),
            is_candidate[row].tolist(),
            keys[row].tolist(),
            int(seeds[row]),
            0.5,
        )
        assert order[row, : len(shown)].tolist() == shown
        assert sorted(order[row]) == list(range(6))
        np.testing.assert_allclose(
            propensities[row], expected + [0.0] * (6 - len(shown)), rtol=1e-6
        )


NUM_SEEDS = 20_000
# Five standard errors: a right implementation fails one frequency in 1.7 million.
STANDARD_ERRORS = 5


def _assert_frequency(count, probability):
    error = np.sqrt(probability * (1 - probability) / NUM_SEEDS)
    assert abs(count / NUM_SEEDS - probability) < STANDARD_ERRORS * error


def check_frequencies_match_propensities(select):
    """Over many seeds, what is shown is as frequent as its propensity says."""
    temperature = 0.4
    tile = [NUM_SEEDS, 1]
    order, propensities = _slates(
        select,
        np.tile(LOGITS, tile),
        np.tile([True] * 4, tile),
        np.tile(KEYS, tile),
        np.arange(NUM_SEEDS),
        temperature,
    )
    weight = np.exp(LOGITS / temperature)
    for first in range(4):
        is_first = order[:, 0] == first
        share = weight[first] / weight.sum()
        _assert_frequency(is_first.sum(), share)
        np.testing.assert_allclose(propensities[is_first, 0], share, rtol=1e-5)
        for second in set(range(4)) - {first}:
            is_pair = is_first & (order[:, 1] == second)
            rest = weight[second] / (weight.sum() - weight[first])
            _assert_frequency(is_pair.sum(), share * rest)
            pair = propensities[is_pair, 0] * propensities[is_pair, 1]
            np.testing.assert_allclose(pair, share * rest, rtol=1e-5)


def _variant(temperature=None, seeds=None, propensities=None):
    """Returns `select_slate` with one thing done wrong."""

    def select(logits, is_candidate, keys, row_seeds, policy):
        order, right, *_ = select_slate(
            logits,
            is_candidate,
            keys,
            row_seeds if seeds is None else seeds(row_seeds),
            policy if temperature is None else _softmax(temperature),
        )
        if propensities is None:
            return order, right
        scaled = tf.where(is_candidate, logits / policy.temperature, -np.inf)
        return order, propensities(tf.nn.softmax(scaled, axis=1), order, right)

    return select


WRONG_SLATES = {
    "temperature ignored": _variant(temperature=1.0),
    "share of all candidates at every position": _variant(
        propensities=lambda prob, order, right: tf.gather(prob, order, batch_dims=1)
    ),
    "noise without the seed": _variant(seeds=tf.zeros_like),
    "propensities in the order of the columns": _variant(
        propensities=lambda prob, order, right: tf.gather(
            right, tf.argsort(order, axis=1), batch_dims=1
        )
    ),
    "propensity 1": _variant(propensities=lambda prob, order, right: right * 0 + 1),
}


CHECKS = [check_slates_equal_reference, check_frequencies_match_propensities]


@pytest.mark.parametrize("check", CHECKS)
def test_select_slate_softmax_value(check):
    check(select_slate)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("wrong", WRONG_SLATES.values(), ids=WRONG_SLATES)
def test_slate_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def check_noise(noise):
    seeds = np.array([0, 1, -1, 2**63 - 1, -(2**63)])
    keys = np.tile(np.array([0, 1, 2**62 - 1, 987654321]), [5, 1])
    expected = [
        [reference.gumbel_noise(int(seed), int(key)) for key in row]
        for seed, row in zip(seeds, keys, strict=True)
    ]
    actual = noise(tf.constant(seeds), tf.constant(keys))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


WRONG_NOISES = {
    "without the seed": lambda seeds, keys: gumbel_noise(seeds * 0, keys),
    "without the item": lambda seeds, keys: gumbel_noise(seeds, keys * 0),
    "of the column": lambda seeds, keys: gumbel_noise(
        seeds, keys * 0 + tf.range(4, dtype=tf.int64)
    ),
    "of a Gumbel minimum": lambda seeds, keys: -gumbel_noise(seeds, keys),
}


def test_gumbel_noise_value():
    check_noise(gumbel_noise)


@pytest.mark.parametrize("wrong", WRONG_NOISES.values(), ids=WRONG_NOISES)
def test_noise_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_noise(wrong)


def test_gumbel_noise_has_a_gumbels_mean_and_variance():
    n = 50_000
    noise = gumbel_noise(tf.range(n, dtype=tf.int64), tf.fill([n, 1], 5)).numpy()
    variance = np.pi**2 / 6
    assert abs(noise.mean() - np.euler_gamma) < 5 * np.sqrt(variance / n)
    # A Gumbel's fourth central moment is 5.4 variances squared.
    assert abs(noise.var() - variance) < 5 * variance * np.sqrt(4.4 / n)


def _unmixed(y: int) -> int:
    """Returns the x of which SplitMix64 makes `y`: every step of it has an inverse."""
    mask = 2**64 - 1

    def unshifted(value, shift):
        out = value
        for _ in range(64 // shift + 1):
            out = value ^ (out >> shift)
        return out

    y = unshifted(y, 31) * pow(0x94D049BB133111EB, -1, 2**64) & mask
    y = unshifted(y, 27) * pow(0xBF58476D1CE4E5B9, -1, 2**64) & mask
    return (unshifted(y, 30) - 0x9E3779B97F4A7C15) & mask


@pytest.mark.parametrize("bits", [0, 2**64 - 1], ids=["no bit", "every bit"])
def test_gumbel_noise_is_finite_where_all_bits_of_the_uniform_are_equal(bits):
    """With 53 bits the uniform was rounded to 1, and its noise was infinite."""
    mixed_seed = _unmixed(0)  # any seed does; this one is mixed into 0
    seed = np.array([mixed_seed], np.uint64).astype(np.int64)
    key = np.array([[_unmixed(bits)]], np.uint64).astype(np.int64)
    assert np.isfinite(gumbel_noise(tf.constant(seed), tf.constant(key))).all()


def test_select_slate_gives_an_item_the_same_noise_in_any_column():
    shuffled = [2, 0, 3, 1]
    everything = [[True] * 4]
    for seed in range(20):
        order, _ = _slates(select_slate, [LOGITS], everything, [KEYS], [seed], 0.5)
        again, _ = _slates(
            select_slate, [LOGITS[shuffled]], everything, [KEYS[shuffled]], [seed], 0.5
        )
        assert [shuffled[column] for column in again[0]] == order[0].tolist()


@settings(max_examples=30, deadline=None)
@given(
    temperature=st.sampled_from([1e-4, 0.1, 1.0, 100.0]),
    num_columns=st.integers(1, 12),
    seed=st.integers(-(2**63), 2**63 - 1),
    data_seed=st.integers(0, 2**16),
)
def test_select_slate_propensities_are_probabilities(
    temperature, num_columns, seed, data_seed
):
    rng = np.random.default_rng(data_seed)
    logits = rng.normal(size=(1, num_columns)).astype(np.float32) * 20
    is_candidate = rng.random((1, num_columns)) < 0.6
    keys = rng.integers(0, 2**62, size=(1, num_columns))
    order, propensities = _slates(
        select_slate, logits, is_candidate, keys, [seed], temperature
    )
    num_shown = is_candidate.sum()
    assert sorted(order[0]) == list(range(num_columns))
    assert is_candidate[0, order[0, :num_shown]].all()
    assert (propensities[0, num_shown:] == 0).all()
    assert (propensities[0, :num_shown] > 0).all() or temperature < 1
    assert np.isfinite(propensities).all() and (propensities <= 1 + 1e-6).all()
    if num_shown:  # the last one has no rival left
        np.testing.assert_allclose(propensities[0, num_shown - 1], 1.0, rtol=1e-5)


def check_greedy(select):
    logits = tf.constant([[0.1, 0.9, 0.5, 0.9], [3.0, 2.0, 1.0, 0.0]])
    is_candidate = tf.constant([[True] * 4, [False, True, False, True]])
    keys = tf.zeros([2, 4], tf.int64)
    order, propensities, *_ = select(logits, is_candidate, keys, tf.range(2), GREEDY)
    order = np.asarray(order)
    assert order[0].tolist() == [1, 3, 2, 0]  # of equal logits the first column
    assert order[1, :2].tolist() == [1, 3] and set(order[1, 2:]) == {0, 2}
    np.testing.assert_array_equal(propensities, [[1, 1, 1, 1], [1, 1, 0, 0]])


WRONG_GREEDY = {
    "ascending": lambda logits, *rest: select_slate(-logits, *rest),
    "candidates ignored": lambda logits, is_candidate, *rest: select_slate(
        logits, tf.ones_like(is_candidate), *rest
    ),
    "explores": lambda *args: select_slate(*args[:-1], _softmax(1.0)),
}


def test_select_slate_greedy_value():
    check_greedy(select_slate)


@pytest.mark.parametrize("wrong", WRONG_GREEDY.values(), ids=WRONG_GREEDY)
def test_greedy_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_greedy(wrong)


@pytest.mark.parametrize("policy", [GREEDY, _softmax(0.1)])
def test_select_slate_without_candidates_shows_nothing(policy):
    order, propensities, *_ = select_slate(
        tf.zeros([2, 3]),
        tf.zeros([2, 3], tf.bool),
        tf.zeros([2, 3], tf.int64),
        tf.range(2, dtype=tf.int64),
        policy,
    )
    assert sorted(order[0].numpy()) == [0, 1, 2]
    np.testing.assert_array_equal(propensities, np.zeros([2, 3]))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_policy_settings_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(ValidationError, match="temperature"):
        PolicySettings(temperature=temperature)


def test_policy_settings_refuses_an_unknown_policy():
    with pytest.raises(ValidationError, match="'greedy', .* or 'ucb'"):
        PolicySettings(name="random")
