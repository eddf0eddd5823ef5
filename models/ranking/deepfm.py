"""DeepFM: a factorisation machine and a neural network over the same embeddings."""

import tensorflow as tf

from models.feature_space import FeatureSpace, TransformedFeature
from models.layers.feature_embedding import FeatureEmbedding, Field
from models.layers.fm_interaction import fm_interaction
from models.layers.mlp import MLP
from models.ranking.deepfm_settings import DeepFMSettings

Tensors = dict[str, tf.Tensor]


class DeepFM(tf.keras.Model):
    """Scores (query, candidate) rows by logits.

    logits = w0 + sum_i w_i + sum_{i<j} <v_i, v_j> + DNN([v_1 .. v_F])

    The fields are the user id, the history (the mean over its items), the features of
    the user, the context and the item, and the item id. The history and a seed item read
    the table of the item id. Both branches read the same V, and their logits are summed,
    not projected.

    A row's fields fall into the query's and the candidate's. Each term is a sum of a
    query part, a candidate part and what joins them, so that scoring many candidates
    for one query computes the query's part once (`score_candidates`).

    Args:
        space: the transformed features.
        settings: sizes and regularisation.

    References:
        [1] Guo et al. DeepFM: A Factorization-Machine based Neural Network for CTR
            Prediction. IJCAI 2017. Eq. (1)-(4).
    """

    def __init__(
        self, space: FeatureSpace, settings: DeepFMSettings | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        settings = settings or DeepFMSettings()
        self.l2 = settings.l2
        self._query_features = space.query_features
        self._candidate_features = space.candidate_features
        fields = _fields(space)
        self.vectors = FeatureEmbedding(
            fields,
            settings.embedding_dim,
            tf.keras.initializers.RandomNormal(stddev=0.05),
            name="vectors",
        )
        self.first_order = FeatureEmbedding(fields, 1, "zeros", name="first_order")
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")
        # The first layer of the DNN on [query; candidate] is a sum of two products. Its
        # bias is a plain addition: TensorFlow 2.20's graph optimiser fuses a dense
        # layer's bias, that sum and the ReLU into a node it then cannot read.
        first, *rest = settings.hidden
        self.query_dense, self.candidate_dense = (
            tf.keras.layers.Dense(first, use_bias=False, name=name)
            for name in ("query_dense", "candidate_dense")
        )
        self.dnn_bias = self.add_weight(
            name="dnn_bias", shape=(first,), initializer="zeros"
        )
        self.dropout = tf.keras.layers.Dropout(settings.dropout)
        self.mlp = MLP(rest, settings.dropout, name="mlp")
        self.dnn_logit = tf.keras.layers.Dense(1, use_bias=False, name="dnn_logit")

    def call(self, features: Tensors, training: bool = False) -> tf.Tensor:
        """Scores rows.

        Args:
            features: the tensors of `space.query_names` and `space.candidate_names`,
                [B] or [B, L]; others are ignored.
            training: whether to drop units and to add the penalty.

        Returns:
            logits: [B] float32, before the sigmoid.
        """
        query = self._embed_query(features)
        candidate = self._embed_candidate(features)
        if training and self.l2 > 0:
            # Only the rows looked up: a penalty on the tables would touch all of them.
            self.add_loss(
                self.l2
                * sum(
                    tf.reduce_mean(tf.reduce_sum(tf.square(part), axis=[-2, -1]))
                    for part in (*query, *candidate)
                )
            )
        return self._logits(query, candidate, training)

    @tf.function(reduce_retracing=True)
    def score_candidates(self, query: Tensors, candidates: Tensors) -> tf.Tensor:
        """Scores every candidate of each query; equal to `call` row by row.

        Args:
            query: the tensors of `space.query_names`, [B] or [B, L].
            candidates: the tensors of `space.candidate_names`, [B, C] or [B, C, L].

        Returns:
            logits: [B, C] float32.
        """
        vectors, weights = self._embed_query(query)
        return self._logits(
            (vectors[:, tf.newaxis], weights[:, tf.newaxis]),
            self._embed_candidate(candidates),
            training=False,
        )

    def _embed_query(self, features: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        return self._embed(features, self._query_features, first=0)

    def _embed_candidate(self, features: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        first = len(self._query_features)
        return self._embed(features, self._candidate_features, first)

    def _embed(
        self, features: Tensors, fields: list[TransformedFeature], first: int
    ) -> tuple:
        names = [name for field in fields for name in field.names]
        missing = sorted(set(names) - set(features))
        if missing:
            raise ValueError(
                f"`features` should hold a tensor for each of {names}. "
                f"Received none for {missing}"
            )
        positions = range(first, first + len(fields))
        tensors = [field.of(features) for field in fields]
        return self.vectors(tensors, positions), self.first_order(tensors, positions)

    def _logits(self, query: tuple, candidate: tuple, training: bool) -> tf.Tensor:
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
        hidden = tf.nn.relu(
            self.query_dense(_flat(query_v))
            + self.candidate_dense(_flat(candidate_v))
            + self.dnn_bias
        )
        hidden = self.mlp(self.dropout(hidden, training=training), training=training)
        dnn = tf.squeeze(self.dnn_logit(hidden), axis=-1)
        return self.bias + first_order + second_order + dnn


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


def _flat(vectors: tf.Tensor) -> tf.Tensor:
    """Joins the fields' vectors: [..., F, K] to [..., F * K]."""
    shape = tf.shape(vectors)
    size = vectors.shape[-2] * vectors.shape[-1]
    return tf.reshape(vectors, tf.concat([shape[:-2], [size]], axis=0))
