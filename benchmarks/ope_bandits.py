"""Classification sets as bandits: the worlds of `benchmarks.ope_rmse`.

Rows are contexts, classes are actions, and the reward is 1 for the right class. The rows
of one part train two classifiers; of the others the logging policy, a mixture of one of
them and chance, picks one class each, and only that reward is seen. What the target
policy would earn is known, as all labels are.
"""

import dataclasses

import numpy as np
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from models.bandit.reward_model import RoundFeatures

SETS = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast_cancer": datasets.load_breast_cancer,
    "iris": datasets.load_iris,
}
EVALUATED_SHARE = 0.7  # of a set's rows
LOGGING_GREED, TARGET_GREED = 0.4, 0.9  # how often the classifier decides


@dataclasses.dataclass(frozen=True)
class Bandit:
    """One log of one set, and what it is to tell.

    Attributes:
        features: of contexts and actions.
        actions: [N] int.
        rewards: [N] 0 or 1.
        logging, target: [N, A] chances.
        value: the mean reward of the target policy on these contexts.
    """

    features: RoundFeatures
    actions: np.ndarray
    rewards: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    value: float


def drawn_bandit(name: str, seed: int) -> Bandit:
    """Splits a set, trains both policies and draws a log.

    Args:
        name: one of `SETS`.
        seed: of the split, the classifiers and the log.
    """
    contexts, labels = SETS[name](return_X_y=True)
    rng = np.random.default_rng([seed, len(labels)])
    order = rng.permutation(len(labels))
    evaluated = order[: round(EVALUATED_SHARE * len(labels))]
    trained = order[len(evaluated) :]
    state = int(rng.integers(2**31))
    simple = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    strong = RandomForestClassifier(50, random_state=state)
    actions = labels.max() + 1

    def policy(model, greed: float) -> np.ndarray:
        model.fit(contexts[trained], labels[trained])
        chosen = np.eye(actions)[model.predict(contexts[evaluated])]
        return greed * chosen + (1 - greed) / actions

    logging, target = policy(simple, LOGGING_GREED), policy(strong, TARGET_GREED)
    shown = drawn_actions(logging, rng)
    right = labels[evaluated]
    scaled = StandardScaler().fit_transform(contexts[evaluated])
    return Bandit(
        RoundFeatures(scaled, np.eye(actions)),
        shown,
        (shown == right).astype(float),
        logging,
        target,
        float(target[np.arange(len(right)), right].mean()),
    )


def drawn_actions(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns [N] an action of each row of chances [N, A]."""
    drawn = rng.random((len(shares), 1)) * shares.sum(axis=1, keepdims=True)
    return (drawn > shares.cumsum(axis=1)).sum(axis=1).clip(max=shares.shape[1] - 1)
