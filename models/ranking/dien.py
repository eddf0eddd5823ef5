"""DIEN: how the interest in the candidate evolved along the history."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.augru import Augru
from models.layers.dice import DiceMLP
from models.layers.gru import Gru
from models.layers.next_event import NextEventLoss
from models.layers.recurrent import left_aligned
from models.layers.target_attention import TargetAttention
from models.ranking.dien_settings import Activation, DIENSettings
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker


class DIEN(SequenceRanker):
    """Scores rows by the evolution of interests, drawn towards the candidate.

    h_t    = GRU(event_1 .. event_t), the interests
    a_t    = attention of the candidate to h_t, 1 in total
    h'     = AUGRU(h, a), the state after the newest event
    logits = b + MLP([query fields; s; candidate fields; candidate * s; h'])
    with s = sum_t event_t, and candidate read as an event is

    In training, h_t is asked for the event that comes next (`NextEventLoss`).

    Args:
        space: the transformed features.
        settings: sizes, regularisation and the weight of the auxiliary loss.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Zhou et al. Deep Interest Evolution Network for Click-Through Rate
            Prediction. AAAI 2019. Section 4.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: DIENSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or DIENSettings()
        super().__init__(space, settings, items, **kwargs)
        units = settings.units
        self.auxiliary_weight = settings.auxiliary_weight
        self.interests = Gru(self.inputs_layer.event_dim, units, name="interests")
        self.next_event = None
        if self.auxiliary_weight:
            self.next_event = NextEventLoss(
                settings.auxiliary_hidden, name="next_event"
            )
        self.target = tf.keras.layers.Dense(units, name="target")
        # One slope for each unit, whatever the number of candidates.
        self.slope = tf.keras.layers.PReLU(shared_axes=[1], name="slope")
        self.attention = TargetAttention(settings.attention, name="attention")
        self.evolution = Augru(units, settings.augru, name="evolution")

    def make_head(self, settings: DIENSettings) -> tf.keras.layers.Layer:
        """Returns the MLP with the activation asked for."""
        if settings.activation is Activation.RELU:
            return super().make_head(settings)
        return DiceMLP(settings.hidden, settings.dropout, name="head")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Returns the sum of the events [B, E]; it, the interests, where they are."""
        history = left_aligned(features[self.space.history_name])
        events, is_event = self.read_events(features, history, training)
        interests = self.interests(tf.transpose(events, [1, 0, 2]))[1:]
        interests = tf.transpose(interests, [1, 0, 2])  # [B, T, H]
        if training and self.next_event is not None:
            loss = self.next_event(interests, events, history)
            self.add_loss(self.auxiliary_weight * loss)
        total = tf.reduce_sum(events, axis=1)
        return total, (total, interests, is_event)

    def compare(
        self, state: tuple[tf.Tensor, ...], fields: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, None]:
        """Returns the candidate times the sum, and the last state, [B, C, E + H]."""
        total, interests, is_event = state
        items = self.inputs_layer.as_event(fields)
        shares = self.attention(self.slope(self.target(items)), interests, is_event)
        evolved = self.evolution(interests, shares, is_event)
        return tf.concat([items * total[:, tf.newaxis], evolved], axis=-1), None
