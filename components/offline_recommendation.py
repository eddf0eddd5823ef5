"""Recommends the slow way: stage by stage, outside the fused graph.

The fused recommender is compared with this. It starts from the ingested tf.Examples, as
training does, not from a request's tensors; it searches and excludes with NumPy, and
ranks by joining each candidate's example to the user's. What both share is the trained
models, so a difference is an error of the fused graph, of the transform at serving, or
of the server.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from components.build_index import ItemVectors, run_in_batches
from components.offline_policy import choose
from components.offline_rules import (
    OfflineRules,
    Values,
    all_fitting,
    with_enough_fitting,
)
from models.policy_settings import PolicySettings
from schemas.features import FeatureCatalog, Side

_FINGERPRINT_RANGE = 2**62


@dataclasses.dataclass(frozen=True)
class OfflineModels:
    """The trained stages: signatures on serialized tf.Examples."""

    embed_query: Callable  # SavedModel signature: examples -> embeddings
    rank: Callable  # SavedModel signature: examples -> logits
    vectors: ItemVectors
    item_examples: np.ndarray  # [N] serialized, in the order of `vectors`
    posterior: Callable | None = (
        None  # signature of rankers that know how unsure they are
    )

    def values_of_items(self, caps: Mapping[str, int]) -> list[Values]:
        """Returns each item's values of the capped features, from its example."""
        if "values" not in self._read:
            parsed = map(tf.train.Example.FromString, self.item_examples)
            self._read["values"] = [
                [
                    (limit, _texts(example, f"{Side.ITEM.value}_{name}"))
                    for name, limit in caps.items()
                ]
                for example in parsed
            ]
        return self._read["values"]

    @functools.cached_property
    def _read(self) -> dict[str, list[Values]]:
        return {}


@dataclasses.dataclass(frozen=True)
class Slate:
    """What one user is shown."""

    item_ids: list[str]
    scores: np.ndarray
    propensities: np.ndarray


def recommend_offline(
    models: OfflineModels,
    query_example: bytes,
    history: Sequence[str],
    exclude: Sequence[str],
    k: int,
    seed: int,
    num_candidates: int,
    policy: PolicySettings,
    catalog: FeatureCatalog,
) -> Slate:
    """Answers one request.

    Args:
        models: the trained stages.
        query_example: serialized tf.Example that holds the user's side.
        history: item ids of the request's history.
        exclude: item ids not to return.
        k: how many items.
        seed: of the policy.
        num_candidates: how many items are ranked.
        policy: how the ranked become a slate.
        catalog: the declared features.

    Returns:
        At most `k` items, first shown first.
    """
    user = run_in_batches(
        models.embed_query, np.array([query_example], object), "embeddings"
    )
    similarity = models.vectors.embeddings @ user[0]
    banned = {*history, *exclude, *_seed_items(query_example, catalog)}
    allowed = [
        row
        for row in np.argsort(-similarity, kind="stable")
        if models.vectors.item_ids[row] not in banned
    ]
    rules, width = None, max(k, num_candidates)
    if policy.caps:
        values = models.values_of_items(policy.caps)
        needed = min(k, sum(all_fitting(values, Counter())))
        allowed = with_enough_fitting(allowed, values, width, needed)
    allowed = allowed[:width]
    if not allowed:
        return Slate([], np.zeros(0, np.float32), np.zeros(0))
    if policy.has_rules:
        rules = OfflineRules(
            [models.values_of_items(policy.caps)[row] for row in allowed],
            policy.diversity.relevance if policy.diversity else 1.0,
            np.asarray(models.vectors.embeddings)[allowed],
        )
    pairs = [
        join_examples(query_example, models.item_examples[row], catalog)
        for row in allowed
    ]
    logits = run_in_batches(models.rank, np.array(pairs, object), "logits")
    scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    ids = [models.vectors.item_ids[row] for row in allowed]
    beliefs = None
    if policy.needs_posterior and models.posterior is not None:
        beliefs = {
            name: run_in_batches(models.posterior, np.array(pairs, object), name)
            for name in models.posterior.structured_outputs
        }
    keys = tf.strings.to_hash_bucket_fast(ids, _FINGERPRINT_RANGE).numpy()
    order, propensities = choose(
        logits, keys, seed, policy, k, num_candidates, beliefs, rules
    )
    order, propensities = order[:k], propensities[:k]
    return Slate([ids[i] for i in order], scores[order], propensities)


def join_examples(query: bytes, item: bytes, catalog: FeatureCatalog) -> bytes:
    """Returns the user's side of one tf.Example joined to the item's side of another."""
    item_keys = {"item_id", *(column.key for column in catalog.columns(Side.ITEM))}
    joined = tf.train.Example.FromString(query)
    for key in item_keys:
        joined.features.feature.pop(key, None)
    for key, feature in tf.train.Example.FromString(item).features.feature.items():
        if key in item_keys:
            joined.features.feature[key].CopyFrom(feature)
    return joined.SerializeToString()


def _seed_items(query: bytes, catalog: FeatureCatalog) -> list[str]:
    example = tf.train.Example.FromString(query)
    return [item for key in catalog.seed_keys() for item in _texts(example, key)]


def _texts(example: tf.train.Example, key: str) -> list[str]:
    """Returns the texts of a feature, of which an example may have none."""
    features = example.features.feature
    found = features[key].bytes_list.value if key in features else []
    return [value.decode() for value in found]
