"""The plain recurrent ranker: the state of an LSTM after the newest event."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.recurrent import Lstm
from models.ranking.lstm_settings import LSTMSettings
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker


class LSTM(SequenceRanker):
    """Scores rows by the state of an LSTM over the history.

    logits = b + MLP([query fields; c; h; candidate fields])

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Hochreiter, Schmidhuber. Long Short-Term Memory. Neural Computation 1997.
        [2] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019. Section 5.2, "LSTM".
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: LSTMSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or LSTMSettings()
        super().__init__(space, settings, items, **kwargs)
        self.lstm = Lstm(settings.units, name="lstm")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tuple]:
        """Returns (c, h), [B, 2 H]."""
        history = features[self.space.history_name]
        events, is_event = self.read_events(features, history, training)
        return self.lstm(events, is_event), ()
