"""Recommends the slow way: stage by stage, outside the fused graph.

The fused recommender is compared with this. It starts from the ingested tf.Examples, as
training does, not from a request's tensors; it searches and excludes with NumPy, and
ranks by joining each candidate's example to the user's. What both share is the trained
models, so a difference is an error of the fused graph, of the transform at serving, or
of the server.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from components.build_index import ItemVectors, run_in_batches
from components.offline_policy import choose
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
    ][: max(k, num_candidates)]
    if not allowed:
        return Slate([], np.zeros(0, np.float32), np.zeros(0))
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
    order, propensities = choose(logits, keys, seed, policy, k, num_candidates, beliefs)
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
    features = tf.train.Example.FromString(query).features.feature
    return [
        item.decode()
        for key in catalog.seed_keys()
        if key in features
        for item in features[key].bytes_list.value
    ]
