"""LinUCB against ridge regression on all columns at once."""

import numpy as np
import pytest

from models.bandit.lin_ucb import DisjointLinUCB, HybridLinUCB

ARMS, D, Z, EVENTS = 3, 2, 4, 25


def events(seed=0):
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, ARMS, EVENTS)
    x, z = rng.normal(size=[EVENTS, D]), rng.normal(size=[EVENTS, Z])
    return arms, x, z, rng.normal(size=EVENTS)


def columns(arms, x, z):
    """Returns [N, Z + ARMS * D]: z, and x in the columns of its arm."""
    blocks = np.zeros([len(arms), ARMS, D])
    blocks[np.arange(len(arms)), arms] = x
    return np.concatenate([z, blocks.reshape(len(arms), -1)], axis=1)


def ridge(design, rewards, asked):
    """Returns means and deviations by one solve with the whole matrix."""
    precision = np.eye(design.shape[1]) + design.T @ design
    means = asked @ np.linalg.solve(precision, design.T @ rewards)
    variances = (asked * np.linalg.solve(precision, asked.T).T).sum(axis=1)
    return means, np.sqrt(variances)


def check_disjoint(make):
    arms, x, _, rewards = events()
    model = make(ARMS, D, 0.7)
    for arm, row, reward in zip(arms, x, rewards, strict=True):
        model.update(arm, row, reward)
    asked, others, _, _ = events(1)
    nothing = np.zeros([EVENTS, 0])
    means, deviations = ridge(
        columns(arms, x, nothing), rewards, columns(asked, others, nothing)
    )
    found = model.predict(asked, others)
    np.testing.assert_allclose(found, (means, deviations), rtol=1e-9)
    np.testing.assert_allclose(
        model.bounds(asked, others), means + 0.7 * deviations, rtol=1e-9
    )


def check_hybrid(make):
    arms, x, z, rewards = events()
    model = make(ARMS, D, Z, 0.7)
    for arm, row, shared, reward in zip(arms, x, z, rewards, strict=True):
        model.update(arm, row, shared, reward)
    asked, others, more, _ = events(1)
    means, deviations = ridge(
        columns(arms, x, z), rewards, columns(asked, others, more)
    )
    found = model.predict(asked, others, more)
    np.testing.assert_allclose(found, (means, deviations), rtol=1e-9)
    np.testing.assert_allclose(
        model.bounds(asked, others, more), means + 0.7 * deviations, rtol=1e-9
    )


class Forgets(DisjointLinUCB):
    def update(self, arm, x, reward):
        self._sums[arm] += reward * x


class ArmsShared(DisjointLinUCB):
    def update(self, arm, x, reward):
        super().update(0, x, reward)


class Variances(DisjointLinUCB):
    def predict(self, arms, x):
        means, deviations = super().predict(arms, x)
        return means, deviations**2


class NothingShared(HybridLinUCB):
    def update(self, arm, x, z, reward):
        super().update(arm, x, 0 * z, reward)


class NoiseLeftOut(HybridLinUCB):
    def update(self, arm, x, z, reward):
        projected = self._inverse[arm] @ x
        left = z - projected @ self._cross[arm]
        super().update(arm, x, z, reward)
        self._shared_sums += left * 0.1


class CrossLeftOut(HybridLinUCB):
    def update(self, arm, x, z, reward):
        super().update(arm, x, z, reward)
        self._cross[arm] = 0


@pytest.mark.parametrize(
    ("check", "make"),
    [(check_disjoint, DisjointLinUCB), (check_hybrid, HybridLinUCB)],
)
def test_lin_ucb_equals_ridge_regression(check, make):
    check(make)


@pytest.mark.parametrize("wrong", [Forgets, ArmsShared, Variances])
def test_disjoint_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_disjoint(wrong)


@pytest.mark.parametrize("wrong", [NothingShared, NoiseLeftOut, CrossLeftOut])
def test_hybrid_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_hybrid(wrong)


def test_arms_are_predicted_in_any_shape():
    model = HybridLinUCB(ARMS, D, Z)
    model.update(1, np.ones(D), np.ones(Z), 1.0)
    arms = np.array([[0, 1, 2], [2, 1, 0]])
    means, deviations = model.predict(arms, np.ones([2, 3, D]), np.ones([2, 3, Z]))
    assert means.shape == deviations.shape == (2, 3)
    np.testing.assert_allclose(means[0], means[1, ::-1])
