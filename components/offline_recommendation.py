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
from models.policy.slate import EXPLORED_PLACES
from models.policy_settings import PolicyName, PolicySettings
from schemas.features import FeatureCatalog, Side

_UINT64 = np.uint64
_FINGERPRINT_RANGE = 2**62
# Uses of a seed, as `models.policy.noise` numbers them.
_COIN, _RANDOM_ITEM = 1, 2
# What a place is filled from: (columns left, place) -> the one drawn, and the chance of
# each of those left.
Draw = Callable[[np.ndarray, int], tuple[int, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class OfflineModels:
    """The trained stages: signatures on serialized tf.Examples."""

    embed_query: Callable  # SavedModel signature: examples -> embeddings
    rank: Callable  # SavedModel signature: examples -> logits
    vectors: ItemVectors
    item_examples: np.ndarray  # [N] serialized, in the order of `vectors`


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
    order, propensities = choose(logits, ids, seed, policy, k, num_candidates)
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


def choose(
    logits: np.ndarray,
    item_ids: Sequence[str],
    seed: int,
    policy: PolicySettings,
    num_places: int | None = None,
    num_explored: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidates by the policy; see `models.policy.select_slate`.

    Returns:
        (order, propensities), both [C], the propensities in that order.
    """
    by_logit = np.argsort(-logits, kind="stable")
    if policy.name is PolicyName.GREEDY:
        return by_logit, np.ones(len(logits))
    keys = tf.strings.to_hash_bucket_fast(list(item_ids), _FINGERPRINT_RANGE).numpy()
    draw = _best(logits)
    if policy.name is PolicyName.SOFTMAX:
        draw = _softmax(logits / policy.temperature, gumbel(seed, keys))
    num_drawn, left = len(logits), np.arange(len(logits))
    if policy.epsilon:
        draw = _with_floor(draw, policy.epsilon, seed, keys)
        left = left[:num_explored]
        limit = len(logits) if num_places is None else num_places
        num_drawn = min(limit, len(left), EXPLORED_PLACES)
    order, propensities = [], []
    for place in range(num_drawn):
        column, chances = draw(left, place)
        order.append(column)
        propensities.append(float(chances[left == column][0]))
        left = left[left != column]
    rest = [column for column in by_logit if column not in order]
    return np.array(order + rest), np.array(propensities + [1.0] * len(rest))


def _best(scores: np.ndarray) -> Draw:
    def draw(left: np.ndarray, place: int) -> tuple[int, np.ndarray]:
        best = left[np.argmax(scores[left])]
        return int(best), (left == best).astype(np.float64)

    return draw


def _softmax(scaled: np.ndarray, noise: np.ndarray) -> Draw:
    def draw(left: np.ndarray, place: int) -> tuple[int, np.ndarray]:
        weights = np.exp(scaled[left] - scaled[left].max())
        column = left[np.argmax((scaled + noise)[left])]
        return int(column), weights / weights.sum()

    return draw


def _with_floor(draw: Draw, epsilon: float, seed: int, keys: np.ndarray) -> Draw:
    def draw_mixed(left: np.ndarray, place: int) -> tuple[int, np.ndarray]:
        column, chances = draw(left, place)
        coin = _uniform(_place_seed(seed, place, _COIN), np.zeros(1, np.int64))
        if coin[0] < epsilon:
            noise = _uniform(_place_seed(seed, place, _RANDOM_ITEM), keys)
            column = int(left[np.argmax(noise[left])])
        return column, (1 - epsilon) * chances + epsilon / len(left)

    return draw_mixed


def gumbel(seed: int, keys: np.ndarray) -> np.ndarray:
    """Returns [C] the noise of `models.policy.gumbel_noise` for one seed, in NumPy."""
    return -np.log(-np.log(_uniform(seed, keys)))


def _uniform(seed: int, keys: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # wrapping around 2^64 is the point
        mixed = _splitmix64(_as_uint64(seed))
        bits = _splitmix64(mixed + keys.astype(_UINT64)) >> _UINT64(12)
    return (bits.astype(np.float64) + 0.5) / 2.0**52


def _place_seed(seed: int, place: int, use: int) -> int:
    with np.errstate(over="ignore"):
        mixed = _splitmix64(_as_uint64(seed)) ^ _UINT64((use << 32) + place)
        return int(_splitmix64(mixed).astype(np.int64)[0])


def _as_uint64(seed: int) -> np.ndarray:
    return np.array([seed], np.int64).astype(_UINT64)


def _splitmix64(x: np.ndarray) -> np.ndarray:
    x = x + _UINT64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> _UINT64(30))) * _UINT64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _UINT64(27))) * _UINT64(0x94D049BB133111EB)
    return x ^ (x >> _UINT64(31))
