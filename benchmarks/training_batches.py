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


def item_features(space: FeatureSpace, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns `space.candidate_names` of every item, [items, ...], ascending by id."""
    rng = np.random.default_rng(seed)
    ids = np.arange(_first_known(), space.item_id.num_ids, dtype=np.int64)
    drawn = {field.name: _draw(field, len(ids), rng) for field in space.item}
    return {space.item_id.name: ids, **drawn}


def batches(
    space: FeatureSpace,
    items: dict[str, np.ndarray],
    batch_size: int,
    num_batches: int,
    num_active: int | None = None,
    seed: int = 0,
) -> list[Batch]:
    """Returns batches as `training_input.transformed_batches` gives them.

    Args:
        space: the features.
        items: the `item_features` of the space.
        batch_size: rows of a batch.
        num_batches: how many.
        num_active: only so many items ever occur, spread evenly over the vocabulary, so
            that a batch touches as many rows of a table whatever its size; None: all.
        seed: seeds all draws.
    """
    rng = np.random.default_rng(seed)
    return [
        _batch(space, items, batch_size, num_active, rng) for _ in range(num_batches)
    ]


def _batch(
    space: FeatureSpace,
    items: dict[str, np.ndarray],
    size: int,
    num_active: int | None,
    rng: np.random.Generator,
) -> Batch:
    num_items = num_active or len(items[space.item_id.name])
    stride = len(items[space.item_id.name]) // num_items

    def draw_items(*shape: int) -> np.ndarray:
        # The inverse of a power law's cumulative share, from 1 to the vocabulary's end.
        span = num_items ** (1 - _EXPONENT) - 1
        rank = (1 + rng.random(shape) * span) ** (1 / (1 - _EXPONENT))
        place = np.minimum(rank.astype(np.int64) - 1, num_items - 1)
        return _first_known() + stride * place

    history = draw_items(size, HISTORY_LENGTH)
    lengths = rng.integers(0, HISTORY_LENGTH + 1, size=[size, 1])
    history[np.arange(HISTORY_LENGTH) < HISTORY_LENGTH - lengths] = 0  # pads the left
    positives = draw_items(size)
    features = {
        space.user_id.name: rng.integers(0, space.user_id.num_ids, size),
        space.history_name: history,
    }
    for name, values in items.items():
        features[name] = _as_transformed(values[positives - _first_known()])
    for field in (*space.user, *space.context):
        features[field.name] = _as_transformed(_draw(field, size, rng))
    row = {
        ITEM_ID: positives.astype(str),
        REWARD: np.ones(size, np.float32),
        LABEL: np.ones(size, np.float32),
    }
    in_memory = tf.nest.map_structure(tf.constant, (features, row))
    return in_memory[0], in_memory[1]


def _draw(field, size: int, rng: np.random.Generator) -> np.ndarray:
    if field.kind is FeatureKind.NUMERIC:
        return rng.normal(size=size).astype(np.float32)
    widths = {FeatureKind.TEXT: _TITLE_NGRAMS, FeatureKind.MULTI_CATEGORICAL: _GENRES}
    shape = (size, widths[field.kind]) if field.kind in widths else (size,)
    return rng.integers(0, field.num_ids, shape, np.int32)


def _as_transformed(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64) if values.dtype == np.int32 else values


def _first_known() -> int:
    return 1 + CATALOG.id_hash_buckets
