"""Synthetic training batches in memory, shaped as the pipeline makes them of MovieLens.

Ids follow a power law, so a batch repeats its head items as a real one does, whatever the
size of the vocabulary.
"""

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.training_input import Batch
from schemas.features import (
    ITEM_ID,
    LABEL,
    REWARD,
    Feature,
    FeatureCatalog,
    FeatureKind,
)

HISTORY_LENGTH = 50
_EXPONENT = 1.1
_GENRES, _TITLE_NGRAMS = 3, 8  # of an item
CATALOG = FeatureCatalog(
    history_length=HISTORY_LENGTH,
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="occupation", kind=FeatureKind.CATEGORICAL),
    ),
    item=(
        Feature(name="title", kind=FeatureKind.TEXT),
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
        Feature(name="release_year", kind=FeatureKind.NUMERIC),
    ),
)


def feature_space(num_items: int) -> FeatureSpace:
    """Returns the space of a log with so many items."""
    sizes = {"user_id": 10_000, ITEM_ID: num_items}
    sizes |= {"user_occupation": 20, "item_genres": 18}
    return FeatureSpace.from_vocabulary_sizes(CATALOG, sizes)


def batches(
    space: FeatureSpace,
    batch_size: int,
    num_batches: int,
    num_active: int | None = None,
    seed: int = 0,
) -> list[Batch]:
    """Returns batches as `training_input.transformed_batches` gives them.

    Args:
        space: the features.
        batch_size: rows of a batch.
        num_batches: how many.
        num_active: only so many items ever occur, spread evenly over the vocabulary, so
            that a batch touches as many rows of a table whatever its size; None: all.
        seed: seeds all draws.
    """
    rng = np.random.default_rng(seed)
    return [_batch(space, batch_size, num_active, rng) for _ in range(num_batches)]


def _batch(
    space: FeatureSpace, size: int, num_active: int | None, rng: np.random.Generator
) -> Batch:
    first_known = 1 + CATALOG.id_hash_buckets
    num_items = num_active or space.item_id.num_ids - first_known
    stride = (space.item_id.num_ids - first_known) // num_items

    def items(*shape: int) -> np.ndarray:
        # The inverse of a power law's cumulative share, from 1 to the vocabulary's end.
        span = num_items ** (1 - _EXPONENT) - 1
        rank = (1 + rng.random(shape) * span) ** (1 / (1 - _EXPONENT))
        place = np.minimum(rank.astype(np.int64) - 1, num_items - 1)
        return first_known + stride * place

    history = items(size, HISTORY_LENGTH)
    lengths = rng.integers(0, HISTORY_LENGTH + 1, size=[size, 1])
    history[np.arange(HISTORY_LENGTH) < HISTORY_LENGTH - lengths] = 0  # pads the left
    positives = items(size)
    features = {
        space.user_id.name: rng.integers(0, space.user_id.num_ids, size),
        space.item_id.name: positives,
        space.history_name: history,
    }
    widths = {FeatureKind.TEXT: _TITLE_NGRAMS, FeatureKind.MULTI_CATEGORICAL: _GENRES}
    for field in (*space.user, *space.item, *space.context):
        if field.kind is FeatureKind.NUMERIC:
            features[field.name] = rng.normal(size=size).astype(np.float32)
        else:
            shape = (size, widths[field.kind]) if field.kind in widths else (size,)
            features[field.name] = rng.integers(0, field.num_ids, shape)
    row = {
        ITEM_ID: positives.astype(str),
        REWARD: np.ones(size, np.float32),
        LABEL: np.ones(size, np.float32),
    }
    in_memory = tf.nest.map_structure(tf.constant, (features, row))
    return in_memory[0], in_memory[1]
