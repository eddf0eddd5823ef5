"""What the rankers share that tell one another apart by how they read a history."""

from typing import Any

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.joint_mlp import JointMLP
from models.ranking.inputs import RankerInputs, flat
from models.ranking.ranker import Ranker, Tensors
from models.ranking.sequence_settings import SequenceSettings


class SequenceRanker(Ranker):
    """Scores rows by what a history tells, beside the fields of query and candidate.

    logits = b + MLP([query fields; summary; candidate fields; pair]) + score

    A model fills in `read_history`, which gives the summary and whatever candidates are
    compared with, and, where it compares them by other means than the MLP, `compare`,
    which gives pair and score.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: SequenceSettings,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        self.l2 = settings.l2
        self.inputs_layer = RankerInputs(
            space,
            settings.embedding_dim,
            items,
            tf.keras.initializers.RandomNormal(stddev=settings.embedding_stddev),
            name="inputs",
        )
        self.head = self.make_head(settings)
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")

    def make_head(self, settings: SequenceSettings) -> tf.keras.layers.Layer:
        """Returns the MLP, which is called as `JointMLP` is."""
        return JointMLP(settings.hidden, settings.dropout, name="head")

    def read_history(
        self, features: Tensors, user: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor | None, Any]:
        """Returns what the history tells of every candidate, and of each apart.

        Args:
            features: the tensors of `space.query_names`.
            user: [B, Fq * K], the query's fields.
            training: whether units are dropped and losses added.

        Returns:
            summary: [B, S], or None; state: tensors [B, ...] for `compare`.
        """
        raise NotImplementedError

    def compare(
        self, state: Any, fields: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns what a history tells of each candidate.

        Args:
            state: what `read_history` gave.
            fields: [B, C, Fc, K], the candidates' fields.
            training: whether units are dropped.

        Returns:
            pair: [B, C, P], or None; score: [B, C], or None.
        """
        return None, None

    def read_events(
        self, features: Tensors, history_ids: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeds a history as the model wants it, or part of it.

        Args:
            features: the tensors of `space.query_names`.
            history_ids: [B, T'], in the place of the history among them.
            training: whether the penalty is added.

        Returns:
            events: [B, T', E]; is_event: bool [B, T'].
        """
        name = self.space.history_name
        events, is_event = self.inputs_layer.events({**features, name: history_ids})
        if training:
            self.penalise(self.l2, events)
        shape = [*history_ids.shape, self.inputs_layer.event_dim]
        return tf.ensure_shape(events, shape), is_event

    def read_query(self, features: Tensors, training: bool) -> tuple[tf.Tensor, Any]:
        """Returns [B, D], the fields with the summary, and the state."""
        fields = self.inputs_layer.query(features)
        if training:
            self.penalise(self.l2, fields)
        user = flat(fields)
        summary, state = self.read_history(features, user, training)
        if summary is not None:
            user = tf.concat([user, summary], axis=-1)
        return user, state

    def logits(
        self, query: tuple[tf.Tensor, Any], candidates: Tensors, training: bool
    ) -> tf.Tensor:
        """Returns [B, C] float32; in training the embedded fields are penalised."""
        user, state = query
        fields = self.inputs_layer.candidates(candidates)
        if training:
            self.penalise(self.l2, fields)
        pair, score = self.compare(state, fields, training)
        item = flat(fields)
        if pair is not None:
            item = tf.concat([item, pair], axis=-1)
        logits = self.head(user[:, tf.newaxis], item, training=training)
        logits = tf.cast(logits, tf.float32) + tf.cast(self.bias, tf.float32)
        return logits if score is None else logits + tf.cast(score, tf.float32)
