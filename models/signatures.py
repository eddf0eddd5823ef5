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
    for column in catalog.columns(*sides):
        dtype = tf.float32 if column.is_number else tf.string
        spec[column.key] = tf.TensorSpec([None, *column.shape], dtype, column.key)
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
    spec = {}
    for feature in (*space.query_features, *space.candidate_features):
        shape = [*[None] * rank, *_row_shape(feature)]
        is_number = feature.kind in (FeatureKind.NUMERIC, FeatureKind.VECTOR)
        dtype = tf.float32 if is_number else tf.int64
        spec[feature.name] = tf.TensorSpec(shape, dtype, feature.name)
        if feature.weights_name:
            weights = tf.TensorSpec(shape, tf.float32, feature.weights_name)
            spec[feature.weights_name] = weights
    return {name: spec[name] for name in names}


def _row_shape(feature: TransformedFeature) -> list[int | None]:
    if feature.kind is FeatureKind.VECTOR:
        return [feature.size]
    is_list = feature.kind in (FeatureKind.MULTI_CATEGORICAL, FeatureKind.TEXT)
    return [None] if is_list else []


def example_spec(
    raw_feature_spec: dict, catalog: FeatureCatalog, *sides: Side
) -> dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]:
    """Returns what to parse of a serialized raw tf.Example for the given sides."""
    keys = [column.key for column in catalog.columns(*sides)]
    if Side.USER in sides:
        keys += [USER_ID, HISTORY]
    if Side.ITEM in sides:
        keys.append(ITEM_ID)
    return {key: raw_feature_spec[key] for key in keys}
