import numpy as np
import pytest

from models.bandit.mrdr import Link, MrdrModel, fit_mrdr, objective, weights
from tests.models.bandit.off_policy_reference import World, variance_by_model

LINKS = pytest.mark.parametrize("link", Link)


def _one_hot(contexts, world):
    """Returns [N, A, D] features that tell every (context, action) by one number each."""
    actions = world.logging.shape[1]
    every = np.random.default_rng(5).normal(size=(*world.logging.shape, 3))
    assert every.shape[1] == actions
    return every[contexts]


def _expected_objective(implementation, world, coefficients, link):
    """Returns E[J] over all that can happen."""
    total = 0.0
    for chance, x, a, r in world.outcomes():
        value, _ = implementation(
            coefficients,
            _one_hot(np.array([x]), world),
            np.array([a]),
            np.array([float(r)]),
            world.target[[x]],
            world.logging[[x]],
            link,
        )
        total += chance * value
    return total


def check_objective(implementation):
    """J is the variance that q decides, but for a constant: by enumeration."""
    for seed, link in ((0, Link.IDENTITY), (1, Link.LOGISTIC), (2, Link.IDENTITY)):
        world = World.drawn(seed)
        rng = np.random.default_rng(seed)
        all_features = _one_hot(np.arange(len(world.context)), world)
        differences = []
        for _ in range(4):
            coefficients = rng.normal(size=4)
            q = MrdrModel(coefficients, link).predict(all_features)
            j = _expected_objective(implementation, world, coefficients, link)
            differences.append(j - variance_by_model(world, q))
        np.testing.assert_allclose(differences, differences[0], rtol=1e-10)


def _variant(omega=None, importance=None, d=None):
    """Returns the objective written out, with one thing done wrong."""

    def wrong(coefficients, features, actions, rewards, target, logging, link):
        q = MrdrModel(coefficients, link).predict(features)
        total = 0.0
        for i, a in enumerate(actions):
            z = (target[i] if d is None else d(target[i])) * q[i]
            z[a] -= rewards[i]
            full = np.diag(1 / logging[i]) - 1.0
            matrix = full if omega is None else omega(full, logging[i])
            ratio = target[i, a] / logging[i, a]
            total += (
                (ratio if importance is None else importance(ratio)) * z @ matrix @ z
            )
        return total / len(actions), None

    return wrong


WRONG = {
    "diagonal alone": _variant(omega=lambda full, pi: np.diag(1 / pi)),
    "plus e e'": _variant(omega=lambda full, pi: full + 2),
    "no importance": _variant(importance=lambda ratio: 1.0),
    "importance squared": _variant(importance=lambda ratio: ratio**2),
    "target not on the diagonal": _variant(d=lambda target: np.ones_like(target)),
}


def test_objective_value():
    check_objective(objective)
    check_objective(_variant())  # the reference itself, without a fault


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_objective_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_objective(wrong)


def _problem(seed=0, num_rounds=300):
    world = World.drawn(seed)
    contexts, actions, rewards = world.log(num_rounds, seed)
    features = _one_hot(contexts, world)
    return features, actions, rewards, world.target[contexts], world.logging[contexts]


@LINKS
def test_objective_gradient_equals_differences(link):
    problem = _problem()
    point, step = np.array([0.3, -0.2, 0.5, -0.4]), 1e-6
    _, gradient = objective(point, *problem, link)
    for place in range(4):
        up, down = point.copy(), point.copy()
        up[place] += step
        down[place] -= step
        slope = objective(up, *problem, link)[0] - objective(down, *problem, link)[0]
        assert gradient[place] == pytest.approx(slope / (2 * step), rel=1e-5, abs=1e-8)


@LINKS
def test_fit_finds_the_least_objective(link):
    problem = _problem(1, 2000)
    model = fit_mrdr(*problem, link, ridge=0.0)
    least, gradient = objective(model.coefficients, *problem, link)
    assert np.abs(gradient).max() < 1e-4 * abs(least)
    rng = np.random.default_rng(0)
    for _ in range(20):
        near = model.coefficients + 0.05 * rng.normal(size=4)
        assert objective(near, *problem, link)[0] > least


def test_fit_does_not_see_the_units_of_features():
    features, *rest = _problem(2)
    changed = features * np.array([100.0, 1.0, 0.01]) + np.array([5.0, 0.0, -1.0])
    q = fit_mrdr(features, *rest).predict(features)
    np.testing.assert_allclose(fit_mrdr(changed, *rest).predict(changed), q, rtol=1e-6)


def test_fit_lowers_the_variance_below_least_squares():
    """A misspecified linear q: what DR varies by is least where it was asked for."""
    for seed in range(5):
        world = World.drawn(seed, num_contexts=6, num_actions=5)
        contexts, actions, rewards = world.log(8000, seed)
        features = np.random.default_rng(seed).normal(size=(6, 5, 2))
        fitted = fit_mrdr(
            features[contexts],
            actions,
            rewards,
            world.target[contexts],
            world.logging[contexts],
        ).predict(features)
        design = np.c_[features[contexts, actions], np.ones(len(actions))]
        slopes, *_ = np.linalg.lstsq(design, rewards, rcond=None)
        plain = np.concatenate([features, np.ones((6, 5, 1))], axis=2) @ slopes
        assert variance_by_model(world, fitted) < variance_by_model(world, plain)


def check_weights(implementation):
    target, logging = np.array([0.5, 0.0, 1.0]), np.array([0.25, 0.5, 1.0])
    expected = [0.25 * 0.75 / 0.0625, 0.0, 0.0]
    np.testing.assert_allclose(implementation(target, logging), expected, rtol=1e-12)


def test_weights_value():
    check_weights(weights)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda target, logging: weights(target, logging, compat="obp"),
        lambda target, logging: target**2 / logging**2,
        lambda target, logging: target**2 * (1 - logging) / logging,
    ],
    ids=["first power", "without 1 - logging", "logging not squared"],
)
def test_weights_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_weights(wrong)


def test_weights_agree_with_obp_where_the_target_is_deterministic():
    target, logging = np.array([1.0, 0.0, 1.0]), np.array([0.2, 0.3, 0.7])
    np.testing.assert_array_equal(
        weights(target, logging), weights(target, logging, "obp")
    )
    with pytest.raises(ValueError, match="'other'"):
        weights(target, logging, compat="other")


def test_fit_refuses_a_log_that_cannot_show_what_the_target_would():
    features, actions, rewards, target, logging = _problem(0, 20)
    logging = logging.copy()
    logging[3, (actions[3] + 1) % 4] = 0.0
    with pytest.raises(ValueError, match="in round 3"):
        fit_mrdr(features, actions, rewards, target, logging)


def test_fit_leaves_out_what_neither_policy_shows():
    """An action that is not there for a user has chance 0 under both."""
    features, actions, rewards, target, logging = _problem(0, 200)
    wider = np.concatenate([features, np.full((200, 1, 3), 9.0)], axis=1)
    none = np.zeros((200, 1))
    both = (np.c_[target, none], np.c_[logging, none])
    value, gradient = objective(
        np.ones(4), wider, actions, rewards, *both, Link.IDENTITY
    )
    same = objective(
        np.ones(4), features, actions, rewards, target, logging, Link.IDENTITY
    )
    assert value == pytest.approx(same[0])
    np.testing.assert_allclose(gradient, same[1], rtol=1e-10)
