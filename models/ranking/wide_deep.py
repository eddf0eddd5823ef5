"""Wide & Deep: crossed features remembered, embedded features generalised, as one."""

from collections.abc import Callable

import tensorflow as tf

from models.feature_space import FeatureSpace, TransformedFeature
from models.layers.feature_embedding import FeatureEmbedding
from models.layers.hashed_cross import HashedCrosses, Values
from models.ranking.dnn import DNN
from models.ranking.dnn_settings import DNNSettings
from models.ranking.ranker import Rate, Tensors
from models.ranking.wide_deep_settings import WideDeepSettings
from models.split_optimizer import SplitOptimizer
from schemas.features import FeatureKind, transformed_name

_LISTS = (FeatureKind.MULTI_CATEGORICAL, FeatureKind.TEXT)
_WITHOUT_IDS = (FeatureKind.NUMERIC, FeatureKind.VECTOR)
Query = dict[str, tf.Tensor | Tensors]


class WideDeep(DNN):
    """Scores rows by a linear model of fields and crosses and a network over fields.

    logits = b + sum_i w_i + sum over crosses of w[hash(values)] + MLP(fields, history)

    The wide part learns which combinations went together, the deep part, a `DNN`, what
    is alike. They are trained jointly, by one loss on the sum of their logits; FTRL with
    an L1 penalty updates the wide part, Adagrad the deep one. The bias counts as wide.

    Args:
        space: the transformed features.
        settings: crosses, sizes and step sizes.
        items: the features of the items that histories hold, for the deep part; None
            reads histories by their ids alone.

    Raises:
        ValueError: if a cross names what is no feature, or one without categories.

    References:
        [1] Cheng et al. Wide & Deep Learning for Recommender Systems. DLRS 2016.
            Section 3.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: WideDeepSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or WideDeepSettings()
        deep = DNNSettings(
            embedding_dim=settings.embedding_dim,
            hidden=settings.hidden,
            dropout=settings.dropout,
            l2=0.0,
        )
        super().__init__(space, deep, items, **kwargs)
        self.settings = settings
        self._query_features = space.query_features
        self._candidate_features = space.candidate_features
        fields = [*self._query_features, *self._candidate_features]
        self.first_order = FeatureEmbedding(fields, 1, "zeros", name="first_order")
        self._crosses = [
            [_crossable(name, fields) for name in cross] for cross in settings.crosses
        ]
        self.crosses = None
        if self._crosses:
            self.crosses = HashedCrosses(
                len(self._crosses), settings.cross_buckets, name="crosses"
            )

    def read_query(self, features: Tensors, training: bool) -> Query:
        """Returns the deep part's input, the linear terms, and what is crossed."""
        names = [name for feature in self._query_features for name in feature.names]
        return {
            "deep": super().read_query(features, training),
            "linear": self._linear(features, self._query_features, 0),
            "crossed": {name: features[name] for name in names},
        }

    def logits(self, query: Query, candidates: Tensors, training: bool) -> tf.Tensor:
        """Returns [B, C]."""
        deep = super().logits(query["deep"], candidates, training)
        linear = query["linear"][:, tf.newaxis] + self._linear(
            candidates, self._candidate_features, len(self._query_features)
        )
        if self.crosses is None:
            return deep + linear
        known = {
            name: values[:, tf.newaxis] for name, values in query["crossed"].items()
        }
        known |= candidates
        crosses = [
            [_values(feature, known, linear.dtype) for feature in cross]
            for cross in self._crosses
        ]
        return deep + linear + self.crosses(crosses)

    def make_optimizer(
        self, scheduled: Callable[[float], Rate]
    ) -> tf.keras.optimizers.Optimizer:
        """Returns FTRL for the wide part and Adagrad for the deep one."""
        wide = [*self.first_order.trainable_variables, self.bias]
        if self.crosses is not None:
            wide += self.crosses.trainable_variables
        ftrl = tf.keras.optimizers.Ftrl(
            scheduled(self.settings.wide_learning_rate),
            l1_regularization_strength=self.settings.wide_l1,
        )
        adagrad = tf.keras.optimizers.Adagrad(
            scheduled(self.settings.deep_learning_rate)
        )
        return SplitOptimizer(ftrl, adagrad, wide)

    def _linear(
        self, features: Tensors, fields: list[TransformedFeature], first: int
    ) -> tf.Tensor:
        tensors = [field.of(features) for field in fields]
        weights = self.first_order(tensors, range(first, first + len(fields)))
        return tf.reduce_sum(weights, axis=[-2, -1])


def _crossable(key: str, fields: list[TransformedFeature]) -> TransformedFeature:
    found = {field.name: field for field in fields if field.kind not in _WITHOUT_IDS}
    name = transformed_name(key)
    if name not in found:
        raise ValueError(
            "`ranking.wide_deep.crosses` should name features that have categories, of "
            f"{[_key(field) for field in found]}. Received: {key!r}"
        )
    return found[name]


def _key(name: str) -> str:
    return name.removesuffix(transformed_name(""))


def _values(feature: TransformedFeature, tensors: Tensors, dtype: tf.DType) -> Values:
    """Returns ids [..., L] and how much each counts: its weight, or 1; 0 for padding."""
    ids = tensors[feature.name]
    if feature.kind not in _LISTS:
        ids = ids[..., tf.newaxis]
    counts = tf.cast(ids != 0, dtype)
    if feature.weights_name:
        counts *= tf.cast(tensors[feature.weights_name], dtype)
    return ids, counts
