"""DeepFM: a factorisation machine and a neural network over the same embeddings."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.joint_mlp import JointMLP
from models.ranking.deepfm_settings import DeepFMSettings
from models.ranking.fm import FM, Embedded
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
        super().__init__(space, settings, items, **kwargs)
        self.dnn = JointMLP(settings.hidden, settings.dropout, name="dnn")

    def _joined(
        self, query: Embedded, candidate: Embedded, training: bool
    ) -> tf.Tensor:
        dnn = self.dnn(flat(query[0]), flat(candidate[0]), training=training)
        return super()._joined(query, candidate, training) + dnn
