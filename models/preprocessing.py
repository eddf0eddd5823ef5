"""How raw features become ids and numbers: one graph for training and serving.

`preprocessing_fn` is analysed once by TensorFlow Transform over the training events;
the graph it leaves behind is applied by both trainers and sits inside every exported
model, so training and serving cannot disagree.
"""

from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft

from models.feature_space import FeatureSpace
from schemas.features import (
    HISTORY,
    ITEM_ID,
    USER_ID,
    Feature,
    FeatureCatalog,
    FeatureKind,
    Side,
    transformed_name,
)

_VOCABULARY_KINDS = (FeatureKind.CATEGORICAL, FeatureKind.MULTI_CATEGORICAL)
_LARGEST_SCORE = 1e6  # standard deviations; more than any of 10^12 numbers has


def preprocessing_fn(inputs: dict, custom_config: dict) -> dict[str, tf.Tensor]:
    """Transforms raw features; see `models.feature_space` for what comes out.

    Args:
        inputs: raw features by example key. Ids are string [B]; every other feature is
            a SparseTensor [B, L] without entries where a row has no value.
        custom_config: {"catalog": FeatureCatalog as JSON}.

    Returns:
        Transformed tensors by `transformed_name(key)`; lists as SparseTensors, because
        Transform knows no dense tensors of changing width. `TransformGraph` makes them
        dense again.

    Raises:
        ValueError: if the schema that the rows were read by lacks a declared feature.
    """
    catalog = FeatureCatalog.model_validate_json(custom_config["catalog"])
    missing = [column.key for column in catalog.columns() if column.key not in inputs]
    if missing:
        raise ValueError(
            f"the schema (`schema_file`) should have a feature for each of {missing}, "
            "which the config declares under `features`. Add them to it, or write it "
            "anew with `tandem schema infer`"
        )
    outputs = {}
    item_vocabulary = tft.vocabulary(inputs[ITEM_ID], vocab_filename=ITEM_ID)
    user_vocabulary = tft.vocabulary(inputs[USER_ID], vocab_filename=USER_ID)
    buckets = catalog.id_hash_buckets
    outputs[transformed_name(USER_ID)] = lookup_ids(
        inputs[USER_ID], user_vocabulary, buckets
    )
    outputs[transformed_name(ITEM_ID)] = lookup_ids(
        inputs[ITEM_ID], item_vocabulary, buckets
    )
    history = _pushed_right(tf.sparse.to_dense(inputs[HISTORY], default_value=""))
    outputs[transformed_name(HISTORY)] = lookup_ids(
        history[:, -catalog.history_length :], item_vocabulary, buckets
    )
    for side in Side:
        for key, feature in catalog.features(side):
            columns = feature.columns(side)
            values, *weights = [inputs[column.key] for column in columns]
            if feature.kind is FeatureKind.ITEM_ID:
                ids = lookup_ids(_first_value(values, ""), item_vocabulary, buckets)
                outputs[transformed_name(key)] = ids
                continue
            outputs[transformed_name(key)] = _transform(key, feature, values)
            if weights:
                outputs[transformed_name(columns[1].key)] = shares(values, weights[0])
    return {
        name: tensor
        if tensor.shape.rank == 1 or tensor.shape[1] is not None
        else tf.sparse.from_dense(tensor)
        for name, tensor in outputs.items()
    }


def _transform(key: str, feature: Feature, values: tf.SparseTensor) -> tf.Tensor:
    """Returns one declared feature in the form of its kind (feature_space.py)."""
    if feature.kind is FeatureKind.VECTOR:
        return _standardised(whole_vectors(values, feature.size))
    if feature.kind is FeatureKind.NUMERIC:
        # One NaN in the log would make the mean, and so the whole column, NaN.
        values = tf.sparse.retain(values, tf.math.is_finite(values.values))
        return _bounded(_first_value(tft.scale_to_z_score(values), default=0.0))
    if feature.kind is FeatureKind.TEXT:
        return hash_ngrams(_first_value(values, default=""), feature.num_hash_buckets)
    vocabulary = tft.vocabulary(values, vocab_filename=key)
    if feature.kind is FeatureKind.CATEGORICAL:
        dense = _first_value(values, default="")
    else:
        dense = tf.sparse.to_dense(values, default_value="")
    return lookup_ids(dense, vocabulary, feature.num_hash_buckets)


def whole_vectors(values: tf.SparseTensor, size: int) -> tf.Tensor:
    """Returns the rows that have all numbers of a vector.

    Args:
        values: float32 [B, L].
        size: numbers of a vector; those behind are ignored.

    Returns:
        float32 [B, size]; NaN where a row has none or too few, or one that is not finite.
    """
    inside = tf.sparse.retain(values, values.indices[:, 1] < size)
    dense = tf.sparse.to_dense(
        tf.SparseTensor(inside.indices, inside.values, [values.dense_shape[0], size]),
        default_value=float("nan"),
    )
    dense = tf.ensure_shape(dense, [None, size])
    is_whole = tf.reduce_all(tf.math.is_finite(dense), axis=1, keepdims=True)
    return tf.where(is_whole, dense, float("nan"))


def _standardised(vectors: tf.Tensor) -> tf.Tensor:
    """Scales each component to zero mean and unit variance over the analysed rows.

    Args:
        vectors: float32 [B, D], NaN where a row has none.

    Returns:
        float32 [B, D], zeros where a row has none.
    """
    scaled = tft.scale_to_z_score(vectors, elementwise=True)
    return _bounded(tf.where(tf.math.is_finite(vectors), scaled, tf.zeros_like(scaled)))


def _bounded(scores: tf.Tensor) -> tf.Tensor:
    """Cuts off what no analysed row can have, so that no request makes a model overflow.

    The standard score of one of n numbers is at most sqrt(n - 1).
    """
    return tf.clip_by_value(scores, -_LARGEST_SCORE, _LARGEST_SCORE)


def shares(values: tf.SparseTensor, weights: tf.SparseTensor) -> tf.Tensor:
    """Returns how much each value of a row counts: 1 in total, or all 0.

    Args:
        values: string [B, L].
        weights: float32 [B, W], by the values' places. One below 0 counts as 0; a value
            without one counts as much as a value of weight 1.

    Returns:
        float32 [B, L]; 0 where there is no value.
    """
    width = values.dense_shape[1]
    inside = tf.sparse.retain(weights, weights.indices[:, 1] < width)
    dense = tf.sparse.to_dense(
        tf.SparseTensor(inside.indices, inside.values, values.dense_shape),
        default_value=1.0,
    )
    is_value = tf.sparse.to_dense(values, default_value="") != ""
    dense = tf.where(is_value, tf.maximum(dense, 0.0), 0.0)
    # Divided by the largest first: a sum of finite weights need not be finite.
    dense = tf.math.divide_no_nan(dense, tf.reduce_max(dense, axis=1, keepdims=True))
    total = tf.reduce_sum(dense, axis=1, keepdims=True)
    return tf.math.divide_no_nan(dense, total)


def lookup_ids(
    values: tf.Tensor,
    vocabulary: tf.Tensor,
    num_hash_buckets: int,
) -> tf.Tensor:
    """Maps strings to ids: "" -> 0, unknown -> 1 + hash, known -> after the buckets.

    The buckets come first so that a vocabulary which grows at its end never moves the
    id of a known value.

    Args:
        values: string, any shape.
        vocabulary: path of the vocabulary file, or what `tft.vocabulary` returned.
        num_hash_buckets: ids shared by the unknown values.

    Returns:
        int64, the shape of `values`.
    """
    known = tft.apply_vocabulary(values, vocabulary, default_value=-1)
    hashed = tf.strings.to_hash_bucket_fast(values, num_hash_buckets)
    ids = tf.where(known >= 0, 1 + num_hash_buckets + known, 1 + hashed)
    return tf.where(values == "", tf.zeros_like(ids), ids)


def hash_ngrams(texts: tf.Tensor, num_buckets: int) -> tf.Tensor:
    """Hashes the lower-cased words and word pairs of each text.

    Args:
        texts: string [B].
        num_buckets: ids 1..num_buckets are used; 0 pads.

    Returns:
        int64 [B, L].
    """
    lower = tf.strings.lower(texts, encoding="utf-8")
    cleaned = tf.strings.regex_replace(lower, r"[^\pL\pN]+", " ")
    words = tf.strings.split(tf.strings.strip(cleaned))  # [B, (words)]
    ngrams = tf.strings.ngrams(words, ngram_width=(1, 2), separator=" ")
    ids = 1 + tf.strings.to_hash_bucket_fast(ngrams, num_buckets)
    return ids.to_tensor(default_value=0)  # [B, L]


def _first_value(values: tf.SparseTensor, default: str | float) -> tf.Tensor:
    """Returns [B]: the first value of each row, `default` where a row has none."""
    rows = tf.SparseTensor(
        values.indices,
        values.values,
        [values.dense_shape[0], tf.maximum(values.dense_shape[1], 1)],
    )
    return tf.sparse.to_dense(rows, default_value=default)[:, 0]


class TransformGraph(tf.Module):
    """The analysed transform: raw features in, dense transformed tensors out.

    Args:
        uri: of the TransformGraph artifact.
        catalog: the declared features it was analysed with.

    Attributes:
        space: the ranges of ids it produces.
        raw_spec: how to parse an ingested tf.Example.
    """

    def __init__(self, uri: str, catalog: FeatureCatalog) -> None:
        super().__init__(name="transform_graph")
        output = tft.TFTransformOutput(uri)
        keys = [USER_ID, ITEM_ID] + [
            key
            for key, feature in catalog.features()
            if feature.kind in _VOCABULARY_KINDS
        ]
        sizes = {key: output.vocabulary_size_by_name(key) for key in keys}
        self.space = FeatureSpace.from_vocabulary_sizes(catalog, sizes)
        self.raw_spec = output.raw_feature_spec()
        self._layer = output.transform_features_layer()
        # The layer loads its graph at the first call. Inside a tf.function, the lookup
        # tables would be initialised again at every step.
        self._layer(tf.io.parse_example(tf.constant([], tf.string), self.raw_spec))

    def __call__(
        self, raw: Mapping[str, tf.Tensor | tf.SparseTensor]
    ) -> dict[str, tf.Tensor]:
        """Transforms what is there; see `models.feature_space` for the tensors.

        Args:
            raw: features by example key; those of one side are enough for that side's.
        """
        return {
            name: tf.sparse.to_dense(ids) if isinstance(ids, tf.SparseTensor) else ids
            for name, ids in self._layer(raw).items()
        }


def raw_features(
    inputs: Mapping[str, tf.Tensor], catalog: FeatureCatalog, *sides: Side
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """Turns a request's dense tensors into the form that the transform graph reads.

    Args:
        inputs: `user_id` string [B] and `history_item_ids` string [B, T] ("" pads) for
            the user side, `item_id` string [B] for the item side, and each feature of
            the sides by example key: string or float [B], string [B, L] where
            multi-valued, float [B, L] its weights, float [B, D] a vector; "" and NaN
            mean missing.
        catalog: the declared features.
        *sides: which sides' features to convert.

    Returns:
        Ids as they are, all else as SparseTensors without the missing values.
    """
    raw = {}
    if Side.USER in sides:
        raw[USER_ID] = inputs[USER_ID]
        raw[HISTORY] = tf.sparse.from_dense(inputs[HISTORY])
    if Side.ITEM in sides:
        raw[ITEM_ID] = inputs[ITEM_ID]
    for column in catalog.columns(*sides):
        values = inputs[column.key]
        if not column.shape:
            values = values[:, tf.newaxis]
        if column.is_number:
            where = tf.where(tf.math.is_finite(values))
            raw[column.key] = tf.SparseTensor(
                where, tf.gather_nd(values, where), tf.shape(values, tf.int64)
            )
        else:
            raw[column.key] = tf.sparse.from_dense(values)
    return raw


def _pushed_right(values: tf.Tensor) -> tf.Tensor:
    """Moves the "" of each row before its values, keeping the order: [B, T] -> [B, T].

    The newest event then stands in the last column of every row, whatever the lengths,
    and cutting to the last columns drops the oldest events only.
    """
    order = tf.argsort(tf.cast(values != "", tf.int32), axis=1, stable=True)
    return tf.gather(values, order, batch_dims=1)
