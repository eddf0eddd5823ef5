"""A world whose truth is known: who picks what, exactly, under a power law of popularity.

    P(item | context) = softmax_item(log popularity[item] + <context, item>)

Contexts and items are points; a log is sampled from it. A model sees a context as one
categorical feature and has to find P's order; its recall is then no estimate from sampled
test events but the share of P that its top items hold.
"""

import dataclasses

import numpy as np

from models.feature_space import FeatureSpace
from schemas.features import ITEM_ID, Feature, FeatureCatalog, FeatureKind

CONTEXT = "segment"
CATALOG = FeatureCatalog(
    history_length=1,
    id_hash_buckets=1,
    user=(Feature(name=CONTEXT, kind=FeatureKind.CATEGORICAL, hash_buckets=1),),
)
_FIRST_KNOWN = 2  # 0 pads, 1 is the bucket of unknown ids


@dataclasses.dataclass(frozen=True)
class World:
    """What is true.

    Attributes:
        conditional: [contexts, items] P(item | context); rows sum to 1. Contexts are
            equally likely.
    """

    conditional: np.ndarray

    @classmethod
    def make(
        cls,
        num_contexts: int,
        num_items: int,
        seed: int,
        exponent: float = 1.0,
        dim: int = 16,
        taste: float = 2.0,
    ) -> "World":
        """Draws a world.

        Args:
            num_contexts: number of contexts.
            num_items: number of items.
            seed: seeds the points.
            exponent: popularity[i] ~ (i + 1)^-exponent.
            dim: of the points.
            taste: standard deviation of <context, item>.
        """
        rng = np.random.default_rng(seed)
        contexts = rng.normal(size=(num_contexts, dim))
        items = rng.normal(size=(num_items, dim))
        logits = taste / np.sqrt(dim) * contexts @ items.T
        logits -= exponent * np.log(np.arange(1, num_items + 1))
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return cls(weights / weights.sum(axis=1, keepdims=True))

    @property
    def num_contexts(self) -> int:
        return self.conditional.shape[0]

    @property
    def num_items(self) -> int:
        return self.conditional.shape[1]

    def events(self, num_events: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (context, item) of events, [num_events] each, in random order."""
        rng = np.random.default_rng(seed)
        contexts = rng.integers(self.num_contexts, size=num_events)
        uniform = rng.random(num_events)
        cumulative = np.cumsum(self.conditional, axis=1)
        items = np.empty(num_events, np.int64)
        for context in range(self.num_contexts):
            own = contexts == context
            items[own] = np.searchsorted(cumulative[context], uniform[own])
        return contexts, np.minimum(items, self.num_items - 1)

    def recall(self, scores: np.ndarray, k: int) -> np.ndarray:
        """Returns [contexts] the chance that an item picked is in the top k.

        Args:
            scores: [contexts, items].
            k: cut-off.
        """
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        return np.take_along_axis(self.conditional, top, axis=1).sum(axis=1)


def feature_space(world: World) -> FeatureSpace:
    """Returns the transformed features of a world's log."""
    sizes = {"user_id": 1, ITEM_ID: world.num_items}
    return FeatureSpace.from_vocabulary_sizes(
        CATALOG, sizes | {f"user_{CONTEXT}": world.num_contexts}
    )


def query_features(contexts: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the transformed tensors of contexts: no history, no user."""
    return {
        "user_id_xf": np.zeros(len(contexts), np.int64),
        "history_item_ids_xf": np.zeros((len(contexts), 1), np.int64),
        f"user_{CONTEXT}_xf": _FIRST_KNOWN + contexts,
    }


def item_features(items: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the transformed tensors of items."""
    return {"item_id_xf": _FIRST_KNOWN + items}
