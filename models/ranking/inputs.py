"""What rankers read: the fields of queries, of candidates and of a history's events.

How a history's events are summarised is deliberately absent: that is what tells one
ranker from another.
"""

import tensorflow as tf

from models.feature_space import FeatureSpace
from models.layers.feature_embedding import FeatureEmbedding, Field
from models.layers.item_table import ItemTable

Tensors = dict[str, tf.Tensor]
_ITEM_ID_FIELD = 0


class RankerInputs(tf.keras.layers.Layer):
    """Embeds the transformed features; an event is embedded as a candidate is.

    Candidates, events and seed items read the same tables, so an item needs to be seen
    in one role only. Id 0, which pads, is zeros everywhere and is never learnt.

    Args:
        space: the transformed features.
        dim: length K of a field's vector.
        items: the features of the items that histories hold, as
            `training_items.distinct_items` collects them; None reads histories by their
            ids alone.
        initializer: of the tables.

    Attributes:
        num_query_fields: Fq: the user's id and the features of the user and the context.
        num_candidate_fields: Fc: the item's id and its features.
        event_dim: E, the length of an event's vector: Fc * K, or K without `items`.
    """

    def __init__(
        self,
        space: FeatureSpace,
        dim: int,
        items: Tensors | None = None,
        initializer: str | tf.keras.initializers.Initializer | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self._space = space
        self._candidate_fields = [space.item_id, *space.item]
        self._query_fields = [space.user_id, *space.user, *space.context]
        self.num_query_fields = len(self._query_fields)
        self.num_candidate_fields = len(self._candidate_fields)
        self.vectors = FeatureEmbedding(
            _fields(space, [*self._candidate_fields, *self._query_fields]),
            dim,
            initializer or tf.keras.initializers.RandomNormal(stddev=0.05),
            name="vectors",
        )
        self.item_table = None
        if items is not None and space.item:
            ids = space.item_id
            self.item_table = ItemTable(ids.name, ids.num_ids, items)
        is_by_id = self.item_table is None
        self.event_dim = dim * (1 if is_by_id else self.num_candidate_fields)

    def query(self, features: Tensors) -> tf.Tensor:
        """Embeds the fields of queries; the history is not among them.

        Args:
            features: the tensors of `space.query_names`.

        Returns:
            vectors: [B, Fq, K].
        """
        first = self.num_candidate_fields
        positions = range(first, first + self.num_query_fields)
        return self.vectors(
            [field.of(features) for field in self._query_fields], positions
        )

    def candidates(self, features: Tensors) -> tf.Tensor:
        """Embeds the fields of items.

        Args:
            features: the tensors of `space.candidate_names`, [...] or [..., L].

        Returns:
            vectors: [..., Fc, K], the item's id first.
        """
        return self.vectors(
            [field.of(features) for field in self._candidate_fields],
            range(self.num_candidate_fields),
        )

    def as_event(self, candidates: tf.Tensor) -> tf.Tensor:
        """Returns what `events` would give of the same items.

        Args:
            candidates: [..., Fc, K], as `candidates` gives them.

        Returns:
            vectors: [..., E].
        """
        if self.item_table is None:
            return candidates[..., _ITEM_ID_FIELD, :]
        return flat(candidates)

    def events(self, features: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
        """Embeds the items of histories, oldest first.

        Args:
            features: the tensors of `space.query_names`.

        Returns:
            vectors: [B, T, E]; zeros where nothing is.
            is_event: bool [B, T].
        """
        history = features[self._space.history_name]
        is_event = tf.not_equal(history, 0)
        if self.item_table is None:
            return self.vectors.lookup(_ITEM_ID_FIELD, history), is_event
        # A batch's histories hold few items many times: each is embedded once.
        distinct, place = tf.unique(tf.reshape(history, [-1]))
        vectors = flat(self.candidates(self.item_table(distinct)))
        shape = tf.concat([tf.shape(history), [self.event_dim]], axis=0)
        return tf.reshape(tf.gather(vectors, place), shape), is_event


def flat(vectors: tf.Tensor) -> tf.Tensor:
    """Joins the fields' vectors: [..., F, K] -> [..., F * K]."""
    size = vectors.shape[-2] * vectors.shape[-1]
    return tf.reshape(vectors, tf.concat([tf.shape(vectors)[:-2], [size]], axis=0))


def _fields(space: FeatureSpace, features: list) -> list[Field]:
    """Returns a field per feature; a seed item reads the table of the item id."""
    return [
        Field(
            feature.kind,
            feature.num_ids,
            _ITEM_ID_FIELD if feature in space.seed_items else None,
            feature.size,
            feature.is_weighted,
        )
        for feature in features
    ]
