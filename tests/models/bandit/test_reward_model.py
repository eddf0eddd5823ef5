import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from models.bandit.reward_model import (
    RoundFeatures,
    cross_fit,
    random_folds,
    splits,
    user_folds,
)


def _log(num_rounds=90, seed=0):
    rng = np.random.default_rng(seed)
    features = RoundFeatures(rng.normal(size=(num_rounds, 2)), np.eye(3))
    actions = rng.integers(0, 3, num_rounds)
    rewards = rng.integers(0, 2, num_rounds).astype(float)
    return features, actions, rewards


def check_cross_fit(implementation):
    """The nearest neighbour would know a round's own reward, if it had been shown it."""
    features, actions, rewards = _log()
    positions = np.arange(90) % 2
    folds = user_folds(np.arange(90) // 3, 3, 0)
    q = implementation(
        KNeighborsRegressor(1), features, actions, rewards, folds, positions
    )
    for row in range(90):
        others = (folds != folds[row]) & (positions == positions[row])
        for action in range(3):
            far = np.abs(features.contexts[others] - features.contexts[row]) ** 2
            same = actions[others] == action
            distance = far.sum(axis=1) + np.where(same, 0.0, 2.0)
            expected = rewards[others][np.argmin(distance)]
            assert q[row, action] == expected


WRONG = {
    "fitted on all": lambda model, f, a, r, folds, positions: np.stack(
        [
            model.fit(f.of(np.arange(90), a), r).predict(
                f.of(np.arange(90), np.full(90, action))
            )
            for action in range(3)
        ],
        axis=1,
    ),
    "places mixed": lambda model, f, a, r, folds, positions: cross_fit(
        model, f, a, r, folds
    ),
    "the logged action for every action": lambda *rest: np.repeat(
        cross_fit(*rest)[np.arange(90), rest[2]][:, None], 3, axis=1
    ),
}


def test_cross_fit_value():
    check_cross_fit(cross_fit)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_cross_fit_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_cross_fit(wrong)


def test_cross_fit_weights_rounds():
    """A round of weight 2 counts as two rounds of weight 1."""
    features, actions, rewards = _log()
    folds = random_folds(90, 3, 1)
    weights = np.where(np.arange(90) % 4 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(90), weights.astype(int))
    q = cross_fit(
        LinearRegression(), features, actions, rewards, folds, weights=weights
    )
    again = cross_fit(
        LinearRegression(),
        RoundFeatures(features.contexts[twice], features.actions),
        actions[twice],
        rewards[twice],
        folds[twice],
    )
    first = np.searchsorted(twice, np.arange(90))
    np.testing.assert_allclose(q, again[first], atol=1e-10)


def test_cross_fit_classifier_gives_chances_and_survives_one_class():
    features, actions, rewards = _log()
    q = cross_fit(
        LogisticRegression(), features, actions, rewards, random_folds(90, 2, 0)
    )
    assert ((q > 0) & (q < 1)).all()
    none = cross_fit(
        LogisticRegression(), features, actions, np.zeros(90), random_folds(90, 2, 0)
    )
    np.testing.assert_array_equal(none, 0.0)


def test_cross_fit_counts_all_alike_where_no_round_has_a_weight():
    features, actions, rewards = _log()
    folds = random_folds(90, 2, 0)
    plain = cross_fit(LinearRegression(), features, actions, rewards, folds)
    weighted = cross_fit(
        LinearRegression(), features, actions, rewards, folds, weights=np.zeros(90)
    )
    np.testing.assert_array_equal(plain, weighted)


def test_cross_fit_refuses_a_classifier_for_more_than_two_rewards():
    features, actions, rewards = _log()
    rewards = np.where(rewards > 0, 1.0, 0.5)
    with pytest.raises(ValueError, match="rewards of 0 or 1.*Received: 0.5"):
        cross_fit(
            LogisticRegression(), features, actions, rewards, random_folds(90, 2, 0)
        )


def test_user_folds_keep_users_together_and_folds_even():
    users = np.random.default_rng(0).integers(0, 40, 500)
    folds = user_folds(users, 4, 0)
    assert all(len(set(folds[users == user])) == 1 for user in range(40))
    assert (
        np.bincount([folds[users == user][0] for user in range(40)]).tolist()
        == [10] * 4
    )
    with pytest.raises(ValueError, match="at most the number of users, 2"):
        user_folds(np.array([1, 1, 2]), 3, 0)


def test_splits_refuse_a_place_that_is_all_in_one_fold():
    with pytest.raises(
        ValueError, match="position 1 should have rounds outside of fold 0"
    ):
        list(splits(np.array([0, 1, 0]), np.array([0, 0, 1])))
