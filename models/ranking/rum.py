"""RUM as a ranker: a candidate reads a memory of the user's events."""

from typing import Any

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.conv_sequence import newest_ids
from models.layers.user_memory import FeatureMemory, read_items
from models.ranking.ranker import Tensors
from models.ranking.rum_settings import MemoryLevel, RUMSettings
from models.ranking.sequence_ranker import SequenceRanker


class RUM(SequenceRanker):
    """Scores rows by what the candidate reads of the user's memory.

    p      = p_user + memory_weight * read(memory, candidate)
    logits = <p, candidate> + b + MLP([query fields; candidate fields; read])

    level item:    the memory is the newest events; read is their mean by the softmax of
                   their inner products with the candidate
    level feature: the memory is `user_memory.FeatureMemory`, to which all events of the
                   history have been written, the candidate never

    p_user is linear in the query's fields. The inner product is the paper's score; the
    MLP reads what a row has besides.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Chen et al. Sequential Recommendation with User Memory Networks. WSDM 2018.
            Section 3.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: RUMSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        settings = settings or RUMSettings()
        super().__init__(space, settings, items, **kwargs)
        self.num_slots = settings.num_slots
        self.memory_weight = settings.memory_weight
        self.user = tf.keras.layers.Dense(
            self.inputs_layer.event_dim, use_bias=False, name="user"
        )
        self.features = None
        if settings.level is MemoryLevel.FEATURE:
            self.features = FeatureMemory(settings.num_slots, name="features")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[None, Any]:
        """Returns no summary; p_user [B, E], and the memory, [B, slots, E]."""
        history = features[self.space.history_name]
        if self.features is None:
            newest = newest_ids(history, self.num_slots)
            return None, (
                self.user(user),
                *self.read_events(features, newest, training),
            )
        events = self.read_events(features, history, training)
        return None, (self.user(user), self.features(*events))

    def compare(
        self, state: Any, fields: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what is read, [B, C, E], and the paper's score, [B, C]."""
        user, *memory = state
        items = self.inputs_layer.as_event(fields)
        read = read_items if self.features is None else self.features.read
        found = read(items, *memory)
        merged = user[:, tf.newaxis] + self.memory_weight * found
        return found, tf.reduce_sum(merged * items, axis=-1)
