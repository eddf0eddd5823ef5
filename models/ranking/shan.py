"""SHAN as a ranker: attention over the long-term events, then over the newest."""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.hierarchical_attention import HierarchicalAttention
from models.ranking.ranker import Tensors
from models.ranking.sequence_ranker import SequenceRanker
from models.ranking.shan_settings import SHANSettings


class SHAN(SequenceRanker):
    """Scores rows by a user's hybrid representation.

    u_long   = attention of u over the older events
    u_hybrid = attention of u over u_long and the newest events
    logits   = <u_hybrid, candidate> + b + MLP([query fields; u_hybrid; candidate fields])

    u is linear in the query's fields. The inner product is the paper's score; the MLP
    reads what a row has besides.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Ying et al. Sequential Recommender System based on Hierarchical Attention
            Network. IJCAI 2018. Section 3.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: SHANSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or SHANSettings()
        super().__init__(space, settings, items, **kwargs)
        self.user = tf.keras.layers.Dense(
            self.inputs_layer.event_dim, use_bias=False, name="user"
        )
        self.attention = HierarchicalAttention(settings.num_newest, name="attention")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns u_hybrid, [B, E], twice."""
        history = features[self.space.history_name]
        events, is_event = self.read_events(features, history, training)
        hybrid = self.attention(self.user(user), events, is_event)
        return hybrid, hybrid

    def compare(
        self, state: tf.Tensor, fields: tf.Tensor, training: bool
    ) -> tuple[None, tf.Tensor]:
        """Returns the inner product with the candidate, [B, C]."""
        return None, tf.linalg.matvec(self.inputs_layer.as_event(fields), state)
