"""A network over the fields and the sum of the history: the plain deep ranker."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.ranking.dnn_settings import DNNSettings
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker


class DNN(SequenceRanker):
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
        super().__init__(space, settings or DNNSettings(), items, **kwargs)

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tuple]:
        """Returns the sum of the events' vectors, which are 0 where nothing is."""
        history = features[self.space.history_name]
        events, _ = self.read_events(features, history, training)
        return tf.reduce_sum(events, axis=1), ()
