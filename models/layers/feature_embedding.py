"""Embeds the fields of a row, whatever their kinds, as vectors of one length."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from models.layers.piecewise_linear import knot_weights
from schemas.features import FeatureKind

_ONE_ID = (FeatureKind.CATEGORICAL, FeatureKind.ITEM_ID)
_WITHOUT_IDS = (FeatureKind.NUMERIC, FeatureKind.VECTOR)


@dataclasses.dataclass(frozen=True)
class Field:
    """One field to embed."""

    kind: FeatureKind
    num_ids: int = 0  # rows of its table, padding included; 0 for NUMERIC and VECTOR
    shares: int | None = None  # position of the field whose table this one reads
    size: int = 0  # components of a VECTOR
    is_weighted: bool = False  # whether its ids come with weights


@tf.keras.utils.register_keras_serializable("tandem")
class FeatureEmbedding(tf.keras.layers.Layer):
    """Turns each field into a vector: the V (or, with `dim` 1, the w) of an FM.

    CATEGORICAL, ITEM_ID     the id's row; zeros for id 0
    MULTI_CATEGORICAL, TEXT  the mean of the rows of the ids that are not 0
    the same, weighted       sum_i weight_i * row of id_i, over the ids that are not 0
    NUMERIC                  value * the field's own learned vector; with `knots`, plus a
                             function with a learned vector at each knot, linear between
    VECTOR                   value [size] @ the field's own learned [size, K] matrix

    All tables are one variable, so the categorical fields are read by one lookup.

    With `shrinkage`, a row whose id n training rows hold counts n / (n + shrinkage), once
    `set_counts` has told n: what little is known of rare ids, and nothing of ids never
    met, does not outweigh the rest. Until then every row counts in full.

    Args:
        fields: the fields, in the order of the tensors; `Field` or any object with a
            `kind`, `num_ids`, `size` and `is_weighted`, such as a
            `TransformedFeature`.
        dim: length K of the vectors.
        initializer: of the table and of the numeric vectors.
        knots: places on a NUMERIC field's scale, ascending; () for none.
        shrinkage: rows that the prior weighs as much as, >= 0; 0 for none.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        dim: int,
        initializer: str | tf.keras.initializers.Initializer = "uniform",
        knots: Sequence[float] = (),
        shrinkage: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"`dim` should be >= 1. Received: dim={dim}")
        if shrinkage < 0:
            raise ValueError(
                f"`shrinkage` should be >= 0. Received: shrinkage={shrinkage}"
            )
        self.knots = tuple(knots)
        self.shrinkage = shrinkage
        self.fields = [
            Field(
                FeatureKind(field.kind),
                field.num_ids,
                getattr(field, "shares", None),
                field.size,
                field.is_weighted,
            )
            for field in fields
        ]
        self.dim = dim
        self.initializer = tf.keras.initializers.get(initializer)
        self._first_row, num_rows = self._place_tables()
        self._numeric = [
            position
            for position, field in enumerate(self.fields)
            if field.kind is FeatureKind.NUMERIC
        ]
        self._add_tables(num_rows)
        self._vectors = [
            position
            for position, field in enumerate(self.fields)
            if field.kind is FeatureKind.VECTOR
        ]
        self.projections = [
            self.add_weight(
                name=f"projection_{position}",
                shape=(self.fields[position].size, dim),
                initializer=_copy(self.initializer),
            )
            for position in self._vectors
        ]

    def _add_tables(self, num_rows: int) -> None:
        """Adds what ids and numbers are looked up in."""
        shape = (num_rows, self.dim)
        if num_rows:
            self.table = self.add_weight(
                name="table", shape=shape, initializer=_copy(self.initializer)
            )
        self.row_scale = None
        if num_rows and self.shrinkage:
            self.row_scale = self.add_weight(
                name="row_scale",
                shape=(num_rows,),
                initializer="ones",
                trainable=False,
            )
        if self._numeric:
            self.numeric_vectors = self.add_weight(
                name="numeric_vectors",
                shape=(len(self._numeric), self.dim),
                initializer=_copy(self.initializer),
            )
            if self.knots:
                self.numeric_bends = self.add_weight(
                    name="numeric_bends",
                    shape=(len(self._numeric), len(self.knots), self.dim),
                    initializer="zeros",
                )

    def _place_tables(self) -> tuple[list[int], int]:
        first_row, num_rows = [], 0
        for position, field in enumerate(self.fields):
            if field.shares is not None:
                _check_shares(self.fields, position)
                first_row.append(first_row[field.shares])
                continue
            if field.kind is FeatureKind.VECTOR and field.size < 1:
                raise ValueError(
                    "`size` should be >= 1 for a vector field. "
                    f"Received: size={field.size} at position {position}"
                )
            if field.kind not in _WITHOUT_IDS and field.num_ids < 1:
                raise ValueError(
                    f"`num_ids` should be >= 1 for a {field.kind.value} field. "
                    f"Received: num_ids={field.num_ids} at position {position}"
                )
            first_row.append(num_rows)
            num_rows += field.num_ids
        return first_row, num_rows

    def add_counts(self, position: int, ids: np.ndarray, counts: np.ndarray) -> None:
        """Adds to the counts of a field's ids.

        Args:
            position: of the field.
            ids: any shape, integer in [0, num_ids); 0 pads.
            counts: [rows] of the table, changed in place; as long as the table.
        """
        np.add.at(counts, self._first_row[position] + ids[ids != 0], 1)

    def set_counts(self, counts: np.ndarray) -> None:
        """Tells in how many training rows each row of the table is read, [rows]."""
        if self.row_scale is not None:
            self.row_scale.assign(counts / (counts + self.shrinkage))

    def lookup(self, position: int, ids: tf.Tensor) -> tf.Tensor:
        """Returns the rows of a field's table.

        Args:
            position: of the field.
            ids: [...] integer in [0, num_ids).

        Returns:
            vectors: [..., K]; zeros for id 0.
        """
        return self._rows(ids + tf.cast(self._first_row[position], ids.dtype), ids)

    def lookup_unmasked(self, position: int, ids: tf.Tensor) -> tf.Tensor:
        """Returns the rows of a field's table, and some finite vector for id 0.

        For callers that give padding a weight of 0 themselves, and then save a pass
        over the vectors.
        """
        return self._gather(ids + tf.cast(self._first_row[position], ids.dtype))

    def call(
        self, tensors: Sequence[tf.Tensor], positions: Sequence[int] | None = None
    ) -> tf.Tensor:
        """Embeds fields.

        Args:
            tensors: one per field: [...] for CATEGORICAL, ITEM_ID and NUMERIC, [..., size]
                for VECTOR, [..., L] for the others, and (ids, weights), both [..., L],
                where they are weighted. The leading axes are the same for all: [B], or
                [B, C].
            positions: which fields the tensors are; None means all, in order.

        Returns:
            vectors: [..., F, K], F = number of tensors, in their order.
        """
        positions = list(range(len(self.fields)) if positions is None else positions)
        if len(tensors) != len(positions):
            raise ValueError(
                f"`tensors` should hold one tensor per field, {len(positions)}. "
                f"Received: {len(tensors)}"
            )
        by_position = dict(zip(positions, tensors, strict=True))
        vectors = self._embed_categorical(by_position)
        for position, tensor in by_position.items():
            kind = self.fields[position].kind
            if kind is FeatureKind.NUMERIC:
                vectors[position] = self._of_number(position, tensor)
            elif kind is FeatureKind.VECTOR:
                projection = self.projections[self._vectors.index(position)]
                vectors[position] = tf.linalg.matvec(
                    projection, tensor, transpose_a=True
                )
            elif self.fields[position].is_weighted:
                vectors[position] = self._weighted_sum(position, tensor)
            elif kind not in _ONE_ID:
                vectors[position] = self._mean(position, tensor)
        return tf.stack([vectors[position] for position in positions], axis=-2)

    def _embed_categorical(self, tensors: dict[int, tf.Tensor]) -> dict:
        positions = [
            position for position in tensors if self.fields[position].kind in _ONE_ID
        ]
        if not positions:
            return {}
        ids = tf.stack([tensors[position] for position in positions], axis=-1)
        first_row = tf.constant([self._first_row[p] for p in positions], ids.dtype)
        is_present = tf.cast(tf.not_equal(ids, 0), self.table.dtype)
        rows = self._distinct(ids + first_row)  # [..., F, K]
        rows *= is_present[..., tf.newaxis]
        return dict(zip(positions, tf.unstack(rows, len(positions), -2), strict=True))

    def _mean(self, position: int, ids: tf.Tensor) -> tf.Tensor:
        """Returns [..., K], the mean over the ids [..., L] that are not 0.

        Only those are read, and no vector is laid down for each of them: lists are
        mostly padding, or long.
        """
        shape = tf.shape(ids)
        # Said and not inferred: there may be no row, or no place in any list.
        flat = tf.reshape(ids, [tf.reduce_prod(shape[:-1]), shape[-1]])
        is_present = tf.not_equal(flat, 0)
        present = tf.where(is_present)
        rows = tf.gather_nd(flat, present)
        distinct, place = tf.unique(rows + self._first_row[position], tf.int64)
        vectors = self._distinct(distinct)
        # A product with the matrix of who holds what: its gradient costs a third of that
        # of `tf.sparse.segment_mean`.
        holds = tf.SparseTensor(
            tf.stack([present[:, 0], place], axis=1),
            tf.ones_like(place, vectors.dtype),
            tf.stack([tf.shape(flat, tf.int64)[0], tf.size(distinct, tf.int64)]),
        )
        total = tf.sparse.sparse_dense_matmul(holds, vectors)
        count = tf.reduce_sum(tf.cast(is_present, vectors.dtype), axis=1, keepdims=True)
        mean = tf.math.divide_no_nan(total, count)
        return tf.reshape(mean, tf.concat([shape[:-1], [self.dim]], axis=0))

    def _of_number(self, position: int, values: tf.Tensor) -> tf.Tensor:
        place = self._numeric.index(position)
        proportional = values[..., tf.newaxis] * self.numeric_vectors[place]
        if not self.knots:
            return proportional
        weights = knot_weights(values, self.knots)
        bends = self.numeric_bends[place]
        return proportional + tf.tensordot(weights, bends, axes=1)

    def _weighted_sum(
        self, position: int, tensors: tuple[tf.Tensor, tf.Tensor]
    ) -> tf.Tensor:
        if not isinstance(tensors, tuple):
            raise ValueError(
                f"`tensors` should hold (ids, weights) for the weighted field {position}, "
                f"as `TransformedFeature.of` gives them. Received: {tensors!r}"
            )
        ids, weights = tensors
        rows = self.lookup(position, ids)
        return tf.reduce_sum(rows * weights[..., tf.newaxis], axis=-2)

    def _rows(self, rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        is_present = tf.cast(tf.not_equal(ids, 0), self.table.dtype)
        return self._gather(rows) * is_present[..., tf.newaxis]

    def _gather(self, rows: tf.Tensor) -> tf.Tensor:
        # Each row is read once and copied: its gradients are then summed in one pass,
        # instead of reaching the optimizer one by one.
        distinct, place = tf.unique(tf.reshape(rows, [-1]))
        vectors = tf.gather(self._distinct(distinct), place)
        return tf.reshape(vectors, tf.concat([tf.shape(rows), [self.dim]], axis=0))

    def _distinct(self, rows: tf.Tensor) -> tf.Tensor:
        vectors = tf.gather(self.table, rows)
        if self.row_scale is None:
            return vectors
        scale = tf.cast(tf.gather(self.row_scale, rows), vectors.dtype)
        return vectors * scale[..., tf.newaxis]

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "fields": [
                {**dataclasses.asdict(field), "kind": field.kind.value}
                for field in self.fields
            ],
            "dim": self.dim,
            "knots": self.knots,
            "shrinkage": self.shrinkage,
            "initializer": tf.keras.initializers.serialize(self.initializer),
        }

    @classmethod
    def from_config(cls, config: dict) -> "FeatureEmbedding":
        fields = [
            Field(**{**field, "kind": FeatureKind(field["kind"])})
            for field in config["fields"]
        ]
        return cls(**{**config, "fields": fields})


def _copy(initializer: tf.keras.initializers.Initializer):
    # An initializer without a seed returns the same values at every use.
    return initializer.from_config(initializer.get_config())


def _check_shares(fields: list[Field], position: int) -> None:
    shared = fields[position].shares
    if not 0 <= shared < position or fields[shared].num_ids != fields[position].num_ids:
        raise ValueError(
            "`shares` should be the position of an earlier field with as many ids. "
            f"Received: shares={shared} at position {position}, {fields[position]}"
        )
