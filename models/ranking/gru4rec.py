"""GRU4Rec as a ranker: the state of a GRU after the newest event."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.gru import Gru
from models.layers.recurrent import left_aligned, state_after
from models.ranking.gru4rec_settings import GRU4RecSettings
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker


class GRU4Rec(SequenceRanker):
    """Scores rows by the state of a GRU over the history.

    h      = GRU(event_1 .. event_T), layers on top of each other
    logits = <W h, candidate> + b + MLP([query fields; h; candidate fields])

    The inner product is the paper's score of an item, its output weights shared with the
    items' vectors; the rest is what a row has besides.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Hidasi et al. Session-based Recommendations with Recurrent Neural Networks.
            ICLR 2016. Section 3.1.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: GRU4RecSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or GRU4RecSettings()
        super().__init__(space, settings, items, **kwargs)
        event_dim = self.inputs_layer.event_dim
        self.grus = [
            Gru(size, units, name=f"gru_{place}")
            for place, (size, units) in enumerate(
                zip((event_dim, *settings.units), settings.units, strict=False)
            )
        ]
        self.out = tf.keras.layers.Dense(event_dim, use_bias=False, name="out")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the state [B, H], and it as a vector of items [B, E]."""
        history = left_aligned(features[self.space.history_name])
        events, is_event = self.read_events(features, history, training)
        inputs = tf.transpose(events, [1, 0, 2])
        for gru in self.grus:
            states = gru(inputs)
            inputs = states[1:]
        state = state_after(states, tf.reduce_sum(tf.cast(is_event, tf.int32), axis=1))
        return state, self.out(state)

    def compare(
        self, state: tf.Tensor, fields: tf.Tensor, training: bool
    ) -> tuple[None, tf.Tensor]:
        """Returns the inner product with the candidate, [B, C]."""
        items = self.inputs_layer.as_event(fields)
        return None, tf.linalg.matvec(items, state)
