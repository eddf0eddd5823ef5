"""DeepFM: a factorisation machine and a neural network over the same embeddings."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.mlp import MLP
from models.ranking.deepfm_settings import DeepFMSettings
from models.ranking.fm import FM, Embedded
from models.ranking.fm_settings import FMSettings
from models.ranking.inputs import flat
from models.ranking.ranker import Tensors


class DeepFM(FM):
    """Scores rows by a factorisation machine and a network over its vectors.

    logits = w0 + sum_i w_i + sum_{i<j} <v_i, v_j> + DNN([v_1 .. v_F])

    The fields are those of `FM`. Both branches read the same V, and their logits are
    summed, not projected.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: not read: the history is a field of item ids.

    References:
        [1] Guo et al. DeepFM: A Factorization-Machine based Neural Network for CTR
            Prediction. IJCAI 2017. Eq. (1)-(4).
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: DeepFMSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or DeepFMSettings()
        of_fm = FMSettings(embedding_dim=settings.embedding_dim, l2=settings.l2)
        super().__init__(space, of_fm, items, **kwargs)
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

    def _joined(
        self, query: Embedded, candidate: Embedded, training: bool
    ) -> tf.Tensor:
        hidden = tf.nn.relu(
            self.query_dense(flat(query[0]))
            + self.candidate_dense(flat(candidate[0]))
            + self.dnn_bias
        )
        hidden = self.mlp(self.dropout(hidden, training=training), training=training)
        dnn = tf.squeeze(self.dnn_logit(hidden), axis=-1)
        return super()._joined(query, candidate, training) + dnn
