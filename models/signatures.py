"""Which tensors the exported functions take, derived from the feature catalogue."""

import tensorflow as tf

from models.feature_space import FeatureSpace, TransformedFeature
from schemas.features import (
    HISTORY,
    ITEM_ID,
    USER_ID,
    FeatureCatalog,
    FeatureKind,
    Side,
)

QUERY_SIDES = (Side.USER, Side.CONTEXT)


def input_signature(catalog: FeatureCatalog, *sides: Side) -> dict[str, tf.TensorSpec]:
    """Returns the tensors that `preprocessing.raw_features` reads, by example key."""
    spec = {}
    if Side.USER in sides:
        spec[USER_ID] = tf.TensorSpec([None], tf.string, USER_ID)
        spec[HISTORY] = tf.TensorSpec([None, None], tf.string, HISTORY)
    if Side.ITEM in sides:
        spec[ITEM_ID] = tf.TensorSpec([None], tf.string, ITEM_ID)
    for key, feature in catalog.features(*sides):
        shape = (
            [None, None] if feature.kind is FeatureKind.MULTI_CATEGORICAL else [None]
        )
        dtype = tf.float32 if feature.kind is FeatureKind.NUMERIC else tf.string
        spec[key] = tf.TensorSpec(shape, dtype, key)
    return spec


def transformed_signature(
    space: FeatureSpace, names: list[str], rank: int = 1
) -> dict[str, tf.TensorSpec]:
    """Returns the transformed tensors of the given names.

    Args:
        space: the transformed features.
        names: some of `space.query_names` and `space.candidate_names`.
        rank: number of leading axes: 1 for [B, ...], 2 for [B, C, ...].
    """
    features = {
        feature.name: feature
        for feature in (
            space.user_id,
            space.item_id,
            TransformedFeature(space.history_name, FeatureKind.MULTI_CATEGORICAL, 0),
            *space.user,
            *space.item,
            *space.context,
        )
    }
    spec = {}
    for name in names:
        kind = features[name].kind
        is_list = kind in (FeatureKind.MULTI_CATEGORICAL, FeatureKind.TEXT)
        dtype = tf.float32 if kind is FeatureKind.NUMERIC else tf.int64
        spec[name] = tf.TensorSpec([None] * (rank + is_list), dtype, name)
    return spec


def example_spec(
    raw_feature_spec: dict, catalog: FeatureCatalog, *sides: Side
) -> dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]:
    """Returns what to parse of a serialized raw tf.Example for the given sides."""
    keys = [key for key, _ in catalog.features(*sides)]
    if Side.USER in sides:
        keys += [USER_ID, HISTORY]
    if Side.ITEM in sides:
        keys.append(ITEM_ID)
    return {key: raw_feature_spec[key] for key in keys}
