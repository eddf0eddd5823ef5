"""A small two-tower model with batches and a pool of items to draw negatives from.

Item n has the transformed id n, but the last two of the pool share the bucket of unknown
ids, 1: the log's ids alone tell them apart.
"""

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.retrieval.settings import RetrievalSettings
from models.retrieval.training_items import ItemPool
from models.retrieval.two_tower import TwoTower
from schemas.features import Feature, FeatureCatalog, FeatureKind

HISTORY_LENGTH = 4
NUM_ITEMS = 9
CATALOG = FeatureCatalog(
    item=(Feature(name="price", kind=FeatureKind.NUMERIC),),
    history_length=HISTORY_LENGTH,
    id_hash_buckets=1,
)
SPACE = FeatureSpace.from_vocabulary_sizes(
    CATALOG, {"user_id": 1, "item_id": NUM_ITEMS}
)
# Known items have the ids 2 to 10.
IDS = np.array([*range(2, 2 + NUM_ITEMS), 1, 1])
NAMES = np.array([*(f"item{n}" for n in IDS[:-2]), "new", "newer"])
PRICES = np.linspace(-1, 1, len(IDS)).astype(np.float32)


def pool() -> ItemPool:
    """Returns all items."""
    return ItemPool(tf.constant(NAMES), item_features(np.arange(len(IDS))))


def item_features(places: np.ndarray) -> dict[str, tf.Tensor]:
    """Returns the transformed tensors of items."""
    return {
        "item_id_xf": tf.constant(IDS[places]),
        "item_price_xf": tf.constant(PRICES[places]),
    }


def model(**changed) -> TwoTower:
    """Returns a model without dropout, always with the same weights."""
    tf.keras.utils.set_random_seed(3)
    defaults = {
        "embedding_dim": 4,
        "history_encoder": "mean",
        "sampling_measure": "presence",
        "dropout": 0.0,
        "frequency_buckets": 4096,
        "frequency_alpha": 0.3,
        "temperature": 0.2,
        "batch_size": 8,
    }
    towers = TwoTower(SPACE, RetrievalSettings(**defaults | changed), item_pool=pool())
    rng = np.random.default_rng(2)
    for weight in towers.trainable_variables:  # not small: options then tell apart
        weight.assign(rng.normal(size=weight.shape))
    return towers


def batch(num_rows: int, seed: int):
    """Returns rows whose items repeat, with histories that hold items of others."""
    rng = np.random.default_rng(seed)
    places = np.minimum(rng.integers(0, 20, num_rows), len(IDS) - 1) % 7
    shape = [num_rows, HISTORY_LENGTH]
    history = rng.integers(0, 2 + NUM_ITEMS, shape) * rng.integers(0, 2, shape)
    features = {
        "user_id_xf": tf.zeros([num_rows], tf.int64),
        "history_item_ids_xf": tf.constant(history),
        **item_features(places),
    }
    row = {
        "item_id": tf.constant(NAMES[places]),
        "reward": tf.constant(rng.uniform(0.1, 2, num_rows).astype(np.float32)),
        "label": tf.ones([num_rows]),
    }
    return features, row
