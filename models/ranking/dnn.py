"""A network over the fields and the sum of the history: the plain deep ranker."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.joint_mlp import JointMLP
from models.ranking.dnn_settings import DNNSettings
from models.ranking.inputs import RankerInputs, flat
from models.ranking.ranker import Ranker, Tensors


class DNN(Ranker):
    """Scores rows by an MLP on their fields and on the sum of the history's events.

    logits = b + MLP([query fields; sum_t event_t; candidate fields])

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Covington et al. Deep Neural Networks for YouTube Recommendations. RecSys
            2016. Section 4; there the history is a mean.
        [2] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019. The baseline of sum pooling.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: DNNSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        settings = settings or DNNSettings()
        self.l2 = settings.l2
        self.inputs_layer = RankerInputs(
            space, settings.embedding_dim, items, name="inputs"
        )
        self.dnn = JointMLP(settings.hidden, settings.dropout, name="dnn")
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")

    def read_query(self, features: Tensors, training: bool) -> tf.Tensor:
        """Returns [B, D]: the fields' vectors and the sum of the events'."""
        fields = self.inputs_layer.query(features)
        events, _ = self.inputs_layer.events(features)  # zeros where nothing is
        if training:
            self.penalise(self.l2, fields, events)
        return tf.concat([flat(fields), tf.reduce_sum(events, axis=1)], axis=-1)

    def logits(
        self, query: tf.Tensor, candidates: Tensors, training: bool
    ) -> tf.Tensor:
        """Returns [B, C]; in training the embedded fields are penalised."""
        fields = self.inputs_layer.candidates(candidates)
        if training:
            self.penalise(self.l2, fields)
        query = query[:, tf.newaxis]
        return self.bias + self.dnn(query, flat(fields), training=training)
