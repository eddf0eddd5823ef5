"""A world of tastes: the Bayesian factorisation machine against LinUCB.

Users and items have hidden vectors, of which a user's group and an item's category tell a
part; a click's logit is their product. The machine reads ids beside groups and categories
and learns who likes what. LinUCB reads what a linear model can: the group for each item
(disjoint), and also every pair of group and category (hybrid).
"""

import dataclasses

import numpy as np
import tensorflow as tf

from models.bandit.bayesian_fm import BayesianFM
from models.bandit.lin_ucb import DisjointLinUCB, HybridLinUCB
from models.feature_space import FeatureSpace
from models.policy import select_slate
from models.policy_settings import PolicyName, PolicySettings
from models.ranking.bayesian_fm_settings import BayesianFMSettings
from schemas.features import Feature, FeatureCatalog, FeatureKind

DIMENSIONS, BASE = 3, -1.5
TOLD = 0.5  # share of a hidden vector's variance that group or category tells
# A prior as wide as the hidden vectors ask for, and no history, which nobody has.
SETTINGS = BayesianFMSettings(
    embedding_dim=4,
    weight_deviation=1.0,
    vector_deviation=0.3,
    initial_deviation=0.1,
    history_items=0,
    newton_steps=2,
)
THOMPSON = PolicySettings(name=PolicyName.THOMPSON, alpha=0.5)
_BUCKETS = 1


@dataclasses.dataclass(frozen=True)
class Tastes:
    """The size of the simulation."""

    users: int = 300
    items: int = 60
    groups: int = 8
    categories: int = 6
    candidates: int = 15
    batch: int = 500
    batches: int = 80


class World:
    """Hidden vectors of users and items, and who is asked what.

    Args:
        size: of the simulation.
        seed: of the world.
    """

    def __init__(self, size: Tastes, seed: int) -> None:
        rng = np.random.default_rng([seed, 0])
        self.size = size
        self.group = rng.integers(0, size.groups, size.users)
        self.category = rng.integers(0, size.categories, size.items)
        self._users = _hidden(rng, self.group, size.groups)
        self._items = _hidden(rng, self.category, size.categories)
        self._quality = 0.4 * rng.normal(size=size.items)
        self._rng = np.random.default_rng([seed, 1])

    def requests(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns users [B] and the items [B, C] that each may be shown."""
        size = self.size
        users = self._rng.integers(0, size.users, size.batch)
        order = self._rng.random((size.batch, size.items)).argsort(axis=1)
        return users, order[:, : size.candidates]

    def chances(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns [B, C], the probability of a click."""
        liking = np.einsum("bd,bcd->bc", self._users[users], self._items[items])
        return 1 / (1 + np.exp(-(BASE + self._quality[items] + liking)))

    def clicks(self, chances: np.ndarray) -> np.ndarray:
        """Returns [B] of 0 and 1."""
        return (self._rng.random(len(chances)) < chances).astype(np.float32)


def _hidden(rng: np.random.Generator, kinds: np.ndarray, count: int) -> np.ndarray:
    of_kind = rng.normal(size=(count, DIMENSIONS))[kinds]
    own = rng.normal(size=(len(kinds), DIMENSIONS))
    return np.sqrt(TOLD) * of_kind + np.sqrt(1 - TOLD) * own


class RandomChoice:
    """Chooses any item."""

    def __init__(self, world: World, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 2])

    def choose(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Returns [B] columns of `items` [B, C]."""
        return self._rng.integers(0, items.shape[1], len(items))

    def learn(self, users: np.ndarray, items: np.ndarray, clicks: np.ndarray) -> None:
        """Learns from the items [B] that were shown."""


class LinUCBChoice:
    """LinUCB on groups, hybrid or disjoint."""

    def __init__(self, world: World, seed: int, is_hybrid: bool, alpha: float) -> None:
        size = world.size
        self._group = np.eye(size.groups)[world.group]
        self._category = np.eye(size.categories)[world.category]
        shared = size.groups * size.categories
        self._is_hybrid = is_hybrid
        self._model = (
            HybridLinUCB(size.items, size.groups, shared, alpha)
            if is_hybrid
            else DisjointLinUCB(size.items, size.groups, alpha)
        )

    def features(self, users: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns x [..., D] and, of the hybrid, z [..., Z]."""
        x = self._group[users]
        if not self._is_hybrid:
            return (x,)
        pairs = x[..., np.newaxis] * self._category[items][..., np.newaxis, :]
        return x, pairs.reshape(*x.shape[:-1], -1)

    def choose(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        everyone = np.broadcast_to(users[:, np.newaxis], items.shape)
        bounds = self._model.bounds(items, *self.features(everyone, items))
        return bounds.argmax(axis=1)

    def learn(self, users: np.ndarray, items: np.ndarray, clicks: np.ndarray) -> None:
        parts = self.features(users, items)
        for row, (item, click) in enumerate(zip(items, clicks, strict=True)):
            self._model.update(item, *(part[row] for part in parts), click)


class BayesianFMChoice:
    """Tandem's ranker and its Thompson sampling, as the recommender runs them."""

    def __init__(self, world: World, seed: int) -> None:
        tf.keras.utils.set_random_seed(seed)
        size = world.size
        catalog = FeatureCatalog(
            user=(Feature(name="group", kind=FeatureKind.CATEGORICAL, hash_buckets=1),),
            item=(
                Feature(name="category", kind=FeatureKind.CATEGORICAL, hash_buckets=1),
            ),
            history_length=1,
            id_hash_buckets=_BUCKETS,
        )
        sizes = {
            "user_id": size.users,
            "item_id": size.items,
            "user_group": size.groups,
            "item_category": size.categories,
        }
        space = FeatureSpace.from_vocabulary_sizes(catalog, sizes)
        self.model = BayesianFM(space, SETTINGS)
        self._world = world
        self._calls = seed << 20

        @tf.function(reduce_retracing=True)
        def choose(query, candidates, seeds):
            beliefs = self.model.shared_posterior(query, candidates)
            slate = select_slate(
                beliefs["means"],
                tf.ones_like(candidates["item_id_xf"], tf.bool),
                candidates["item_id_xf"],
                seeds,
                THOMPSON,
                num_places=1,
                beliefs=beliefs,
            )
            return slate.order[:, 0]

        self._choose = choose
        self._learn = tf.function(self.model.learn, reduce_retracing=True)

    def query(self, users: np.ndarray) -> dict[str, tf.Tensor]:
        """Returns transformed query tensors."""
        return {
            "user_id_xf": _ids(users),
            "history_item_ids_xf": tf.zeros([len(users), 1], tf.int64),
            "user_group_xf": _ids(self._world.group[users]),
        }

    def candidates(self, items: np.ndarray) -> dict[str, tf.Tensor]:
        """Returns transformed candidate tensors."""
        return {
            "item_id_xf": _ids(items),
            "item_category_xf": _ids(self._world.category[items]),
        }

    def choose(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        self._calls += len(users)
        seeds = tf.range(self._calls, self._calls + len(users), dtype=tf.int64)
        return self._choose(self.query(users), self.candidates(items), seeds).numpy()

    def learn(self, users: np.ndarray, items: np.ndarray, clicks: np.ndarray) -> None:
        rows = self.query(users) | self.candidates(items)
        self._learn(rows, tf.constant(clicks))


def _ids(values: np.ndarray) -> tf.Tensor:
    return tf.constant(1 + _BUCKETS + values, tf.int64)


LEARNERS = {
    "random": RandomChoice,
    "bfm": BayesianFMChoice,
    **{
        f"{kind}_{alpha:g}": (
            lambda world, seed, is_hybrid=kind == "hybrid", alpha=alpha: LinUCBChoice(
                world, seed, is_hybrid, alpha
            )
        )
        for kind in ("disjoint", "hybrid")
        for alpha in (0.1, 0.3, 1.0)
    },
}


def earned(name: str, size: Tastes, seed: int) -> np.ndarray:
    """Returns [batches], the expected clicks of each batch, as shares of the showings.

    Args:
        name: one of `LEARNERS`, or `best`, which knows the world.
        size: of the simulation.
        seed: of the world; all learners of a seed see the same users.
    """
    world = World(size, seed)
    learner = None if name == "best" else LEARNERS[name](world, seed)
    shares = []
    for _ in range(size.batches):
        users, items = world.requests()
        chances = world.chances(users, items)
        column = chances.argmax(axis=1)
        if learner is not None:
            column = learner.choose(users, items)
        shown = np.arange(len(users)), column
        shares.append(chances[shown].mean())
        clicks = world.clicks(chances[shown])
        if learner is not None:
            learner.learn(users, items[shown], clicks)
    return np.array(shares)
