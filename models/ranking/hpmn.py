"""HPMN: a user's lifelong history in a memory of fixed size, read by the candidate."""

from collections.abc import Callable

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.hierarchical_memory import HierarchicalMemory
from models.layers.joint_mlp import JointMLP
from models.layers.memory_read import MemoryRead
from models.losses.memory_covariance import covariance_norm, covariance_square
from models.ranking.hpmn_settings import CovarianceForm, HPMNSettings
from models.ranking.inputs import RankerInputs, flat
from models.ranking.ranker import Ranker, Tensors
from schemas.features import FeatureCatalog

MEMORY_FOLDER = "Format-Memory"  # of a model's artifact
_PENALTIES = {
    CovarianceForm.NORM: covariance_norm,
    CovarianceForm.SQUARE: covariance_square,
}


class HPMN(Ranker):
    """Scores rows by what the candidate reads of the user's memory.

    memory = HierarchicalMemory(events)      written by the history alone
    r      = MemoryRead(memory, v)           v: the candidate's fields
    logits = b + MLP([query fields; r; v]) + <r, W v>

    A candidate is never written to the memory, so that one memory of a user answers for
    all candidates, and can be kept and written to as events come: `write_event`,
    `score_memory`.

    Args:
        space: the transformed features.
        settings: sizes and regularisation.
        items: the features of the items that histories hold; None reads histories by
            their ids alone.

    References:
        [1] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019.
    """

    def __init__(
        self,
        space: FeatureSpace,
        settings: HPMNSettings | None = None,
        items: Tensors | None = None,
        **kwargs,
    ) -> None:
        super().__init__(space, **kwargs)
        self.settings = settings = settings or HPMNSettings()
        self.inputs_layer = RankerInputs(
            space, settings.embedding_dim, items, name="inputs"
        )
        self.memory = HierarchicalMemory(
            self.inputs_layer.event_dim,
            settings.memory_units,
            settings.periods,
            name="memory",
        )
        self.read = MemoryRead(
            settings.memory_units, settings.attention_hidden, settings.hops, name="read"
        )
        self.dnn = JointMLP(settings.hidden, settings.dropout, name="dnn")
        self.match = tf.keras.layers.Dense(
            settings.memory_units, use_bias=False, name="match"
        )
        self.bias = self.add_weight(name="bias", shape=(), initializer="zeros")

    def read_query(self, features: Tensors, training: bool) -> Tensors:
        """Returns `fields` [B, Fq * K] and `memory` [B, D, H]."""
        memory = self.memory(*self.inputs_layer.events(features))
        if training and self.settings.covariance > 0:
            penalty = _PENALTIES[self.settings.covariance_form]
            self.add_loss(self.settings.covariance * penalty(memory))
        return self._query(features, memory, training)

    def logits(self, query: Tensors, candidates: Tensors, training: bool) -> tf.Tensor:
        """Returns [B, C]; in training the embedded fields are penalised."""
        return self._read(query, candidates, training)[0]

    def read_with_attention(self, features: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores rows and tells which layer of the memory answered.

        Args:
            features: as of `call`.

        Returns:
            logits: [B], and attention: [B, hops, D], from the lowest layer; 1 in total
            for each hop.
        """
        query = self.read_query(features, training=False)
        candidates = {
            name: features[name][:, tf.newaxis] for name in self.space.candidate_names
        }
        logits, attention = self._read(query, candidates, training=False)
        return tf.squeeze(logits, axis=1), tf.squeeze(attention, axis=1)

    def explanations(self) -> dict[str, Callable[[Tensors], Tensors]]:
        """Returns `layer_attention`: `weights` [B, D], the mean over hops."""

        def layer_attention(features: Tensors) -> Tensors:
            _, attention = self.read_with_attention(features)
            return {"weights": tf.reduce_mean(attention, axis=1)}

        return {"layer_attention": layer_attention}

    def companions(
        self, catalog: FeatureCatalog, transform: Callable
    ) -> dict[str, tf.Module]:
        """Returns what serves users by their memories, to be saved beside the ranker."""
        from models.ranking.memory_serving import MemoryServing  # imports this module

        return {MEMORY_FOLDER: MemoryServing(self, catalog, transform)}

    def write_event(
        self, memory: tf.Tensor, step: tf.Tensor, items: Tensors
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Writes one more event of each user.

        Args:
            memory: [B, D, H]; zeros for a user without events.
            step: int64 [B], how many events were written.
            items: the tensors of `space.candidate_names`, [B] or [B, L]: the events'
                items. Where the id is 0, nothing changes.

        Returns:
            memory: [B, D, H], and step: [B].
        """
        events = self.inputs_layer.as_event(self.inputs_layer.candidates(items))
        is_event = tf.not_equal(items[self.space.item_id.name], 0)
        return self.memory.update(memory, step, events, is_event)

    def score_memory(
        self, memory: tf.Tensor, query: Tensors, candidates: Tensors
    ) -> tf.Tensor:
        """Scores candidates by a memory in place of a history.

        Args:
            memory: [B, D, H].
            query: the tensors of `space.query_names` but for the history.
            candidates: the tensors of `space.candidate_names`, [B, C] or [B, C, L].

        Returns:
            logits: [B, C] float32.
        """
        query = self._query(query, memory, training=False)
        return tf.cast(self.logits(query, candidates, training=False), tf.float32)

    def _query(self, features: Tensors, memory: tf.Tensor, training: bool) -> Tensors:
        fields = self.inputs_layer.query(features)
        if training:
            self.penalise(self.settings.l2, fields)
        return {"fields": flat(fields), "memory": memory}

    def _read(
        self, query: Tensors, candidates: Tensors, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns logits [B, C] and the layers' weights [B, C, hops, D]."""
        fields = self.inputs_layer.candidates(candidates)
        if training:
            self.penalise(self.settings.l2, fields)
        targets = flat(fields)
        read, attention = self.read(query["memory"], targets)
        logits = self.bias + self.dnn(
            query["fields"][:, tf.newaxis],
            tf.concat([read, targets], axis=-1),
            training=training,
        )
        # Whether a memory speaks for a candidate is a product, slow to find by layers.
        return logits + tf.reduce_sum(read * self.match(targets), axis=-1), attention
