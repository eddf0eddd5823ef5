"""Caser as a ranker: convolutions over the newest events."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.conv_sequence import ConvSequence, newest_ids
from models.ranking.caser_settings import CaserSettings
from models.ranking.inputs import flat
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker


class Caser(SequenceRanker):
    """Scores rows by patterns among the newest events.

    z      = relu(W [vertical; horizontal] + b) of the newest L events
    logits = <W'_i, [z; P_u]> + b'_i + b + MLP([query fields; z; candidate fields])

    W'_i and b'_i are linear in the candidate's fields and P_u is in the query's, where
    the paper has a row of a table for each item and user. The first two terms are the
    paper's score; the MLP reads what a row has besides.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Tang, Wang. Personalized Top-N Sequential Recommendation via Convolutional
            Sequence Embedding. WSDM 2018. Section 3.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: CaserSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or CaserSettings()
        super().__init__(space, settings, items, **kwargs)
        self.num_events = settings.num_events
        self.convolutions = ConvSequence(
            settings.horizontal_filters, settings.vertical_filters, name="convolutions"
        )
        self.dropout = tf.keras.layers.Dropout(settings.dropout)
        dense = tf.keras.layers.Dense
        self.pattern = dense(settings.units, activation="relu", name="pattern")
        self.user = dense(settings.units, use_bias=False, name="user")
        self.item_weights = dense(
            2 * settings.units, use_bias=False, name="item_weights"
        )
        self.item_bias = dense(1, use_bias=False, name="item_bias")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z [B, D], and [z; P_u], [B, 2 D]."""
        history = newest_ids(features[self.space.history_name], self.num_events)
        events, _ = self.read_events(features, history, training)
        found = self.dropout(self.convolutions(events), training=training)
        pattern = self.pattern(found)
        return pattern, tf.concat([pattern, self.user(user)], axis=-1)

    def compare(
        self, state: tf.Tensor, fields: tf.Tensor, training: bool
    ) -> tuple[None, tf.Tensor]:
        """Returns the paper's score, [B, C]."""
        items = flat(fields)
        score = tf.linalg.matvec(self.item_weights(items), state)
        return None, score + tf.squeeze(self.item_bias(items), axis=-1)
