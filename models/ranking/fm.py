"""The factorisation machine: each pair of fields interacts by an inner product."""

import numpy as np
import tensorflow as tf

from models.feature_space import FeatureSpace, TransformedFeature
from models.layers.feature_embedding import FeatureEmbedding, Field
from models.layers.fm_interaction import fm_interaction
from models.ranking.fm_settings import FMSettings
from models.ranking.ranker import Ranker, Tensors

Embedded = tuple[tf.Tensor, tf.Tensor]  # V [..., F, K] and w [..., F, 1] of F fields


class FM(Ranker):
    """Scores rows by first-order terms and all pairs of fields.

    logits = w0 + sum_i w_i + sum_{i<j} <v_i, v_j>

    The fields are the user id, the history (the mean over its items), the features of
    the user, the context and the item, and the item id. The history and a seed item read
    the table of the item id.

    Training rows are read without a share of the ids (`id_dropout`), and what is rare
    counts less (`shrinkage`; see `FeatureEmbedding`).

    A row's fields fall into the query's and the candidate's. Each term is a sum of a
    query part, a candidate part and what joins them, so that scoring many candidates
    for one query computes the query's part once.

    Args:
        space: the transformed features.
        settings: size and regularisation.
        items: not read: the history is a field of item ids.

    References:
        [1] Rendle. Factorization Machines. ICDM 2010. Eq. (1).
    """

    reads_items = False

    def __init__(
        self,
        space: FeatureSpace,
        settings: FMSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        settings = settings or FMSettings()
        self.l2 = settings.l2
        self.id_dropout = settings.id_dropout
        self._query_features = space.query_features
        self._candidate_features = space.candidate_features
        fields = _fields(space)
        how = {"knots": settings.numeric_knots, "shrinkage": settings.shrinkage}
        # V and w side by side: one look-up and one update give both.
        self.terms = FeatureEmbedding(
            fields, settings.embedding_dim + 1, VectorsNormal(0.05), **how, name="terms"
        )
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")

    def prepare(self, batches: tf.data.Dataset) -> None:
        """Counts the rows that hold each id; being in a history counts for nothing."""
        if self.terms.row_scale is None:
            return
        counts = np.zeros(self.terms.row_scale.shape, np.int64)
        fields = [*self._query_features, *self._candidate_features]
        counted = [
            (position, field.name)
            for position, field in enumerate(fields)
            if field.num_ids and field.name != self.space.history_name
        ]
        for features, _ in batches:
            for position, name in counted:
                self.terms.add_counts(position, features[name].numpy(), counts)
        self.terms.set_counts(counts)

    def read_query(self, features: Tensors, training: bool) -> Embedded:
        """Embeds the query's fields: [B, F, K] and [B, F, 1]."""
        if training:
            features = self._without_some(features, self.space.user_id)
        return self._embed_query(features)

    def logits(self, query: Embedded, candidates: Tensors, training: bool) -> tf.Tensor:
        """Returns [B, C]; in training the embedded fields are penalised."""
        if training:
            candidates = self._without_some(candidates, self.space.item_id)
        candidate = self._embed_candidate(candidates)
        if training:
            self.penalise(self.l2, *query, *candidate)
        vectors, weights = (part[:, tf.newaxis] for part in query)
        return self._joined((vectors, weights), candidate, training)

    def _without_some(self, features: Tensors, of: TransformedFeature) -> Tensors:
        """Returns the features with some ids of one of them missing."""
        ids = features[of.name]
        stays = tf.random.uniform(tf.shape(ids)) >= self.id_dropout
        return features | {of.name: ids * tf.cast(stays, ids.dtype)}

    def _joined(
        self, query: Embedded, candidate: Embedded, training: bool
    ) -> tf.Tensor:
        """Scores fields whose leading axes, [B, 1] and [B, C], go together."""
        (query_v, query_w), (candidate_v, candidate_w) = query, candidate
        first_order = tf.reduce_sum(query_w, [-2, -1]) + tf.reduce_sum(
            candidate_w, [-2, -1]
        )
        # Pairs within the query, within the candidate, and across.
        across = tf.reduce_sum(query_v, axis=-2) * tf.reduce_sum(candidate_v, axis=-2)
        second_order = (
            fm_interaction(query_v)
            + fm_interaction(candidate_v)
            + tf.reduce_sum(across, axis=-1)
        )
        return self.bias + first_order + second_order

    def _embed_query(self, features: Tensors) -> Embedded:
        return self._embed(features, self._query_features, first=0)

    def _embed_candidate(self, features: Tensors) -> Embedded:
        first = len(self._query_features)
        return self._embed(features, self._candidate_features, first)

    def _embed(
        self, features: Tensors, fields: list[TransformedFeature], first: int
    ) -> Embedded:
        positions = range(first, first + len(fields))
        terms = self.terms([field.of(features) for field in fields], positions)
        vectors, weights = tf.split(terms, [self.terms.dim - 1, 1], axis=-1)
        return vectors, weights


@tf.keras.utils.register_keras_serializable("tandem")
class VectorsNormal(tf.keras.initializers.Initializer):
    """Draws V from a normal distribution and sets w, the last column, to 0.

    Args:
        stddev: of the distribution.
    """

    def __init__(self, stddev: float) -> None:
        self.stddev = stddev

    def __call__(self, shape, dtype=None, **kwargs) -> tf.Tensor:
        *rows, columns = shape
        normal = tf.keras.initializers.RandomNormal(self.stddev)
        vectors = normal([*rows, columns - 1], dtype)
        return tf.concat([vectors, tf.zeros([*rows, 1], vectors.dtype)], axis=-1)

    def get_config(self) -> dict:
        return {"stddev": self.stddev}


def _fields(space: FeatureSpace) -> list[Field]:
    """Returns a field per feature of the query, then of the candidate."""
    features = [*space.query_features, *space.candidate_features]
    # The history comes first among those that read the table of the item id.
    history = features.index(space.history)
    of_items = (space.item_id, *space.seed_items)
    return [
        Field(
            feature.kind,
            feature.num_ids,
            history if feature in of_items else None,
            feature.size,
            feature.is_weighted,
        )
        for feature in features
    ]
