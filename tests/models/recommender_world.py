"""Twelve items, towers and a ranker small enough to work out every answer by hand."""

import numpy as np
import tensorflow as tf

from models.index import ExactIndex, ScannIndex, SegmentedIndex
from models.policy_settings import PolicyName, PolicySettings
from models.recommender import Recommender
from models.recommender_items import NO_FACTS
from schemas.features import Feature, FeatureCatalog, FeatureKind

NUM_ITEMS = 12
ITEM_IDS = [f"item{row}" for row in range(NUM_ITEMS)]
NUM_CANDIDATES = 5
DEFAULT_K = 3
CATALOG = FeatureCatalog(
    user=(Feature(name="taste", kind=FeatureKind.NUMERIC),), history_length=4
)
_angle = np.linspace(0, 2 * np.pi, NUM_ITEMS, endpoint=False) + 0.1
VECTORS = np.stack([np.cos(_angle), np.sin(_angle)], axis=1).astype(np.float32)
QUALITY = np.random.default_rng(4).normal(size=NUM_ITEMS).astype(np.float32)
GREEDY = PolicySettings(name=PolicyName.GREEDY)
SOFTMAX = PolicySettings(name=PolicyName.SOFTMAX, temperature=0.5)


class Towers(tf.Module):
    """The transform, the query tower and the ranker of the world."""

    def __init__(self):
        super().__init__()
        self.rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(ITEM_IDS), tf.range(1, NUM_ITEMS + 1, dtype=tf.int64)
            ),
            default_value=0,
        )
        padding = np.zeros([1, 2], np.float32)
        self.vectors = tf.Variable(np.concatenate([padding, VECTORS]))

    def transform(self, raw):
        history = tf.sparse.to_dense(raw["history_item_ids"], default_value="")
        taste = tf.sparse.reorder(raw["user_taste"])
        return {
            "history_item_ids_xf": self.rows.lookup(history),
            "user_taste_xf": tf.sparse.to_dense(taste)[:, 0],
        }

    def embed_query(self, query):
        history = tf.gather(self.vectors, query["history_item_ids_xf"])  # [B, T, 2]
        taste = query["user_taste_xf"]
        vector = tf.stack([tf.cos(taste), tf.sin(taste)], axis=1)
        vector += 0.1 * tf.reduce_sum(history, axis=1)
        return tf.math.l2_normalize(vector, axis=1)

    def score_candidates(self, query, candidates):
        liking = tf.abs(tf.sin(query["user_taste_xf"]))[:, tf.newaxis]
        return candidates["quality_xf"] * (1 + liking)


def recommender(
    index=None,
    policy=GREEDY,
    num_candidates=NUM_CANDIDATES,
    catalog=CATALOG,
    beliefs=None,
    facts=NO_FACTS,
):
    """Returns the world's recommender; `index` is the exact one by default."""
    towers = Towers()
    exact = ExactIndex(VECTORS)
    module = Recommender(
        catalog=catalog,
        item_ids=ITEM_IDS,
        transform=towers.transform,
        embed_query=towers.embed_query,
        score_candidates=towers.score_candidates,
        candidates={"quality_xf": QUALITY},
        index=index or exact,
        exact_index=exact,
        policy=policy,
        num_candidates=num_candidates,
        default_k=DEFAULT_K,
        beliefs=beliefs,
        facts=facts,
    )
    module.towers = towers
    return module


class ShortIndex(ExactIndex):
    """An approximate index that never finds more than `limit` rows of the best ones."""

    is_exact = False

    def __init__(self, limit):
        super().__init__(VECTORS)
        self.limit = limit

    def search(self, queries, k):
        scores, rows = super().search(queries, k)
        found = tf.range(tf.shape(rows)[1]) < self.limit
        return tf.where(found, scores, float("-inf")), tf.where(found, rows, -1)


def scann_index():
    """Returns the world's items in ScaNN."""
    return ScannIndex(VECTORS)


def segmented_index():
    """Returns the world's items, half of them fresh, beside as many deleted ones."""
    half = NUM_ITEMS // 2
    main = ScannIndex(np.concatenate([VECTORS[:half], 1.1 * VECTORS[half:]]))
    rows = np.where(np.arange(NUM_ITEMS) < half, np.arange(NUM_ITEMS), -1)
    return SegmentedIndex(main, rows, VECTORS[half:], np.arange(half, NUM_ITEMS))


def request(users, exclude=None, k=3, seeds=None) -> dict[str, tf.Tensor]:
    """Returns the inputs of `recommend`.

    Args:
        users: (history, taste) of each user.
        exclude: a list of items for each user.
        k: how many items.
        seeds: one a user; 0, 1, ... by default.
    """
    exclude = exclude or [[] for _ in users]
    return {
        "user_id": tf.constant([f"user{n}" for n in range(len(users))], tf.string),
        "history_item_ids": padded([history for history, _ in users]),
        "user_taste": tf.constant([taste for _, taste in users], tf.float32),
        "exclude_item_ids": padded(exclude),
        "k": tf.constant(k, tf.int32),
        "seed": tf.constant(
            list(range(len(users))) if seeds is None else seeds, tf.int64
        ),
    }


def padded(lists: list[list[str]]) -> tf.Tensor:
    """Returns string [B, longest], padded by ""."""
    width = max(map(len, lists), default=0)
    rows = [[*values, *[""] * (width - len(values))] for values in lists]
    return tf.constant(rows, tf.string, shape=[len(lists), width])


def slow_ranking(history, taste, exclude, k, num_candidates=NUM_CANDIDATES):
    """Returns (row, logit) of the retrieved items of one user, best logit first."""
    taste = 0.0 if np.isnan(taste) else taste
    query = np.array([np.cos(taste), np.sin(taste)])
    for item in history:
        if item in ITEM_IDS:
            query += 0.1 * VECTORS[ITEM_IDS.index(item)]
    allowed = [
        row for row in range(NUM_ITEMS) if ITEM_IDS[row] not in {*history, *exclude}
    ]
    allowed.sort(key=lambda row: -float(query @ VECTORS[row]))
    retrieved = allowed[: max(k, num_candidates)]
    logits = {row: float(QUALITY[row] * (1 + abs(np.sin(taste)))) for row in retrieved}
    return sorted(logits.items(), key=lambda pair: -pair[1])
