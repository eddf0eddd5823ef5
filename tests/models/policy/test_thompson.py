"""Thompson sampling and UCB: propensities against frequencies, and their errors."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from models.policy import select_slate, slate_propensities
from models.policy_settings import PolicyName, PolicySettings

MEANS = np.array([0.3, -0.2, 9.0, 0.5], np.float32)
DEVIATIONS = np.array([0.4, 1.2, 3.0, 0.7], np.float32)
IS_CANDIDATE = np.array([True, True, False, True])
ITEMS = [0, 1, 3]
KEYS = np.array([11, 2**61, 3, 7], np.int64)
NUM_SEEDS = 100_000
NUM_ESTIMATES = 4000
# Two items that move together and one that moves against them.
SHARED = {
    "means": MEANS,
    "shared_deviations": np.array([1.0, 0.5], np.float32),
    "slopes": np.array([[1.0, 0.2], [1.1, -0.2], [1.0, 1.0], [-1.0, 0.3]], np.float32),
    "variances": np.array([0.3, 0.5, 1.0, 0.4], np.float32),
    "variance_slopes": np.full([4, 2], 0.1, np.float32),
    "variance_curvatures": np.full([4, 2], 0.3, np.float32),
}
BELIEFS = {
    "logit": {"means": MEANS, "deviations": DEVIATIONS},
    "parameters": SHARED,
}


def policy_of(draw, **changes):
    changes = {"alpha": 0.8, "propensity_samples": 8, **changes}
    return PolicySettings(name=PolicyName.THOMPSON, draw=draw, **changes)


def arguments(num_rows, beliefs):
    """Returns what both functions take first, and the beliefs, for as many requests."""

    def tiled(values):
        return tf.tile(tf.constant(values)[tf.newaxis], [num_rows, *[1] * values.ndim])

    first = [tiled(values) for values in (MEANS, IS_CANDIDATE, KEYS)]
    seeds = tf.range(num_rows, dtype=tf.int64)
    return [*first, seeds], {name: tiled(values) for name, values in beliefs.items()}


def check_frequencies(select, propensities_of, policy):
    """Each slate of two is as frequent as its propensity is, on average over seeds.

    A slate's two estimates are independent, so their product has no bias. The bounds
    are five standard errors, of the frequency and of the average.
    """
    args, beliefs = arguments(NUM_SEEDS, BELIEFS[policy.draw.value])
    slate = select(*args, policy, 2, None, beliefs)
    order = slate.order.numpy()[:, :2]
    args, beliefs = arguments(NUM_ESTIMATES, BELIEFS[policy.draw.value])
    for pair in itertools.permutations(ITEMS, 2):
        share = (order == pair).all(axis=1).mean()
        keys = tf.tile(tf.constant(KEYS[[list(pair)]]), [NUM_ESTIMATES, 1])
        estimates, _ = propensities_of(*args, keys, policy, 2, None, beliefs)
        chances = estimates.numpy().prod(axis=1)
        error = np.hypot(
            np.sqrt(share * (1 - share) / NUM_SEEDS),
            chances.std() / np.sqrt(NUM_ESTIMATES),
        )
        assert abs(share - chances.mean()) < 5 * error, (pair, share, chances.mean())


POLICIES = {
    "logit": policy_of("logit"),
    "parameters": policy_of("parameters"),
    "parameters with a floor": policy_of("parameters", epsilon=0.3),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_propensities_are_the_frequencies_of_100_000_calls(policy):
    check_frequencies(select_slate, slate_propensities, policy)


def _as_if(change):
    """Propensities of another policy than the one that selects."""

    def propensities_of(*args):
        *first, policy, num_places, num_explored, beliefs = args
        policy, beliefs = change(policy, beliefs)
        return slate_propensities(*first, policy, num_places, num_explored, beliefs)

    return propensities_of


def _with(**update):
    return lambda policy, beliefs: (policy.model_copy(update=update), beliefs)


def _variances_doubled(policy, beliefs):
    return policy, {**beliefs, "deviations": beliefs["deviations"] ** 2}


def _nothing_shared(policy, beliefs):
    """Each item's draw apart: the covariance that the query brings is lost."""
    variances = beliefs["variances"] + tf.einsum(
        "bck,bk->bc", beliefs["slopes"] ** 2, beliefs["shared_deviations"] ** 2
    )
    of_logits = {"means": beliefs["means"], "deviations": tf.sqrt(variances)}
    return policy, of_logits


WRONG = {
    "alpha ignored": (POLICIES["logit"], _as_if(_with(alpha=1.0))),
    "variances for deviations": (POLICIES["logit"], _as_if(_variances_doubled)),
    "nothing shared": (POLICIES["parameters"], _as_if(_nothing_shared)),
    "the floor forgotten": (
        POLICIES["parameters with a floor"],
        _as_if(_with(epsilon=0.0)),
    ),
}


@pytest.mark.parametrize(("policy", "wrong"), WRONG.values(), ids=WRONG)
def test_frequency_checker_rejects(policy, wrong):
    with pytest.raises(AssertionError):
        check_frequencies(select_slate, wrong, policy)


def check_errors(select, draw):
    """The distance from the truth is about the standard error, and not more.

    The truth is the average of many estimates. Neighbouring slices differ in their mean
    too, so the error may be stated too large, but never too small.
    """
    policy = policy_of(draw, propensity_samples=64)
    args, beliefs = arguments(NUM_ESTIMATES, BELIEFS[draw])
    slate = select(*args, policy, 1, None, beliefs)
    first = slate.order.numpy()[:, 0]
    for item in ITEMS:
        estimates = slate.propensities.numpy()[first == item, 0]
        errors = slate.errors.numpy()[first == item, 0]
        actual, stated = estimates.std(), np.sqrt((errors**2).mean())
        assert 0.9 * actual < stated < 4 * actual, (item, actual, stated)
        assert stated < 0.06


def _scaled_errors(factor):
    def select(*args):
        slate = select_slate(*args)
        return slate._replace(errors=factor * slate.errors)

    return select


@pytest.mark.parametrize("draw", ["logit", "parameters"])
def test_standard_errors_are_those_of_the_estimates(draw):
    check_errors(select_slate, draw)


@pytest.mark.parametrize("factor", [0.5, 5.0])
def test_error_checker_rejects(factor):
    with pytest.raises(AssertionError):
        check_errors(_scaled_errors(factor), "parameters")


def test_same_seed_same_slate_and_its_own_propensities():
    policy = policy_of("parameters", epsilon=0.1)
    args, beliefs = arguments(40, SHARED)
    slate, again = (select_slate(*args, policy, 3, None, beliefs) for _ in range(2))
    for first, second in zip(slate, again, strict=True):
        np.testing.assert_array_equal(first, second)
    keys = tf.gather(args[2], slate.order[:, :3], batch_dims=1)
    given, errors = slate_propensities(*args, keys, policy, 3, None, beliefs)
    np.testing.assert_allclose(given, slate.propensities[:, :3], rtol=1e-5)
    np.testing.assert_allclose(errors, slate.errors[:, :3], rtol=1e-4, atol=1e-7)
    assert (given > 0).numpy().all() and (given <= 1).numpy().all()


def check_ucb(select):
    """By hand: bounds at alpha 1 are .7, 1.0 and 1.2; the one at 12 is no candidate."""
    policy = PolicySettings(name=PolicyName.UCB, alpha=1.0)
    args, beliefs = arguments(2, BELIEFS["logit"])
    slate = select(*args, policy, None, None, beliefs)
    np.testing.assert_array_equal(slate.order, [[3, 1, 0, 2]] * 2)
    np.testing.assert_array_equal(slate.propensities, [[1, 1, 1, 0]] * 2)


def test_ucb_value():
    check_ucb(select_slate)


@pytest.mark.parametrize(
    "change",
    [lambda d: -d, lambda d: 0 * d, lambda d: d**2],
    ids=["-", "0", "variance"],
)
def test_ucb_checker_rejects(change):
    def wrong(*args):
        *first, beliefs = args
        deviations = change(beliefs["deviations"])
        return select_slate(*first, {**beliefs, "deviations": deviations})

    with pytest.raises(AssertionError):
        check_ucb(wrong)


def test_ucb_with_a_floor_has_the_propensities_of_epsilon_greedy():
    policy = PolicySettings(name=PolicyName.UCB, alpha=1.0, epsilon=0.3)
    args, beliefs = arguments(1, BELIEFS["logit"])
    slates = tf.constant([KEYS[[3, 0, 1]]])
    given, _ = slate_propensities(*args, slates, policy, None, None, beliefs)
    np.testing.assert_allclose(given, [[0.7 + 0.1, 0.15, 1.0]], rtol=1e-5)
