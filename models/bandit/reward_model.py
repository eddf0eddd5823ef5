"""A model of the reward that never predicts a round that it was fitted on.

Cross-fitting keeps a doubly robust estimate free of the bias that an over-fitted model
brings: rounds are dealt into folds, and each fold is predicted by a model of the others.

References:
    [1] Chernozhukov et al. Double/Debiased Machine Learning for Treatment and Structural
        Parameters. Econometrics Journal 2018. Section 3.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import KFold


@dataclasses.dataclass(frozen=True)
class RoundFeatures:
    """Features of rounds and of actions, which a model reads side by side.

    Attributes:
        contexts: [N, X] of each round.
        actions: [A, Y] of each action.
    """

    contexts: np.ndarray
    actions: np.ndarray

    def of(self, rounds: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Returns [n, X + Y] of one action in each of some rounds."""
        return np.concatenate([self.contexts[rounds], self.actions[actions]], axis=1)

    def of_all(self, rounds: np.ndarray) -> np.ndarray:
        """Returns [n, A, X + Y] of every action in each of some rounds."""
        shape = (len(rounds), len(self.actions))
        contexts = np.broadcast_to(
            self.contexts[rounds][:, np.newaxis], (*shape, self.contexts.shape[1])
        )
        actions = np.broadcast_to(self.actions, (*shape, self.actions.shape[1]))
        return np.concatenate([contexts, actions], axis=2)


def random_folds(num_rounds: int, num_folds: int, seed: int) -> np.ndarray:
    """Returns [N] the fold of each round; the rounds of a user may be torn apart."""
    folds = np.zeros(num_rounds, np.int64)
    parts = KFold(num_folds, shuffle=True, random_state=seed).split(folds)
    for number, (_, inside) in enumerate(parts):
        folds[inside] = number
    return folds


def user_folds(users: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Returns [N] the fold of each round; all rounds of a user are in one.

    What a model learnt of a user's other rounds would be learnt from the same clicks.

    Raises:
        ValueError: if there are fewer users than folds.
    """
    distinct, user = np.unique(users, return_inverse=True)
    if len(distinct) < num_folds:
        raise ValueError(
            f"`num_folds` should be at most the number of users, {len(distinct)}. "
            f"Received: {num_folds}"
        )
    return random_folds(len(distinct), num_folds, seed)[user]


def splits(
    folds: np.ndarray, positions: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rounds to fit on, rounds to predict) of every fold and position.

    Args:
        folds: [N] int.
        positions: [N] int: each has a model of its own, as a click at the top means
            something else than one at the bottom; None for one model of all.

    Raises:
        ValueError: if there is nothing to fit on.
    """
    for position in [None] if positions is None else np.unique(positions):
        here = np.ones(len(folds), bool) if position is None else positions == position
        for fold in np.unique(folds):
            fitted = np.flatnonzero(here & (folds != fold))
            predicted = np.flatnonzero(here & (folds == fold))
            if not len(predicted):
                continue
            if not len(fitted):
                raise ValueError(
                    f"position {position} should have rounds outside of fold {fold} to "
                    "fit a reward model on. Received: none; take fewer folds, or one "
                    "model for all positions"
                )
            yield fitted, predicted


def cross_fit(
    estimator: Any,
    features: RoundFeatures,
    actions: np.ndarray,
    rewards: np.ndarray,
    folds: np.ndarray,
    positions: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Returns [N, A] q of every action in each round, by models of other folds.

    Args:
        estimator: of scikit-learn's form; a classifier where rewards are 0 or 1, else a
            regressor. It is cloned.
        features: what it reads.
        actions: [N] int, what was shown.
        rewards: [N].
        folds: [N] int, see `user_folds`.
        positions: [N] int, see `splits`.
        weights: [N] of the rounds in the fit, such as `mrdr.weights`.

    Raises:
        ValueError: if a classifier is given rewards that are not 0 or 1.
    """
    check_rewards(estimator, rewards)
    q = np.zeros((len(actions), len(features.actions)))
    for fitted, predicted in splits(folds, positions):
        chosen = None if weights is None else weights[fitted]
        model = fitted_model(
            estimator, features.of(fitted, actions[fitted]), rewards[fitted], chosen
        )
        for action in range(len(features.actions)):
            every = np.full(len(predicted), action)
            q[predicted, action] = model(features.of(predicted, every))
    return q


def fitted_model(estimator: Any, features, rewards, weights=None):
    """Returns features [n, D] -> q [n], as one fit on given rounds has it.

    Where no round has a weight, all count alike; where all that count earned the same, q
    is that everywhere: a classifier cannot be fitted to one class.
    """
    if weights is not None and not (weights > 0).any():
        weights = None
    counted = rewards if weights is None else rewards[weights > 0]
    if len(np.unique(counted)) == 1:
        return lambda features: np.full(len(features), float(counted[0]))
    model = clone(estimator)
    if weights is None:
        model.fit(features, rewards)
    else:
        model.fit(features, rewards, sample_weight=weights)
    if is_classifier(model):
        return lambda features: model.predict_proba(features)[:, 1]
    return model.predict


def check_rewards(estimator: Any, rewards: np.ndarray) -> None:
    """Raises ValueError where a classifier should learn more than two rewards."""
    if is_classifier(estimator) and not np.isin(rewards, (0, 1)).all():
        odd = rewards[~np.isin(rewards, (0, 1))][0]
        raise ValueError(
            "a classifier as reward model needs rewards of 0 or 1; give a regressor for "
            f"others, such as labels of 0.5. Received: {odd}"
        )
