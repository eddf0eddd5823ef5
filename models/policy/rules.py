"""What the items above a place mean for those left: caps on likeness, and diversity.

Both are functions of the items above alone, whatever put them there. A place's propensity
is conditional on the items above, so it stays exact under any policy: its choice is made
among the items that the caps still allow, by logits that diversity has lowered.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.policy_settings import PolicySettings

NO_VALUE = -1

State = tuple[tf.Tensor, ...]

_LEAST_COSINE = -1.0


class SlateRules:
    """Caps and diversity over the candidates of requests.

    caps       no more than `limits[l]` items of a slate share a value of column l
    diversity  MMR: at a place, the logit of c is lowered by
               (1 - relevance) / relevance * max over the items a above of cos(v_c, v_a),
               which orders items as relevance * logit - (1 - relevance) * max cos does

    Args:
        settings: whether diversity is asked for, and how much.
        values: int32 [B, C, L], what the candidates are capped by, `NO_VALUE` for none.
            A value names one thing of one feature, and stands once in an item's row.
        limits: [L] ints >= 1, of the columns of `values`.
        vectors: [B, C, K] float; only read where diversity is asked for.

    References:
        [1] Carbonell, Goldstein. The Use of MMR, Diversity-Based Reranking for
            Reordering Documents and Producing Summaries. SIGIR 1998. Section 2.
    """

    def __init__(
        self,
        settings: PolicySettings,
        values: tf.Tensor | None = None,
        limits: Sequence[int] = (),
        vectors: tf.Tensor | None = None,
    ) -> None:
        self._values = values
        self._limits = tf.constant(list(limits), tf.int32)
        self._weight = 0.0
        self._vectors = None
        if settings.diversity is not None and vectors is not None:
            relevance = settings.diversity.relevance
            self._weight = (1.0 - relevance) / relevance
            self._vectors = tf.math.l2_normalize(vectors, axis=-1)

    @property
    def has_diversity(self) -> bool:
        """Whether logits change from place to place."""
        return self._vectors is not None

    def start(self) -> State:
        """Returns what the rules remember of the items above, of none."""
        state: State = ()
        if self._values is not None:
            state += (tf.zeros_like(self._values),)
        if self._vectors is not None:
            state += (tf.fill(tf.shape(self._vectors)[:2], _LEAST_COSINE),)
        return state

    def shapes(self) -> list[tf.TensorShape]:
        """Returns the shapes of the state, of which only the rank is certain."""
        return [tf.TensorShape([None] * part.shape.rank) for part in self.start()]

    def is_open(self, state: State) -> tf.Tensor | bool:
        """Returns [B, C] bool: which candidates the caps still allow."""
        if self._values is None:
            return True
        return tf.reduce_all(state[0] < self._limits, axis=-1)

    def penalty(self, state: State) -> tf.Tensor | float:
        """Returns [B, C] float32: by how much the logits are lowered."""
        return self._weight * state[-1] if self._vectors is not None else 0.0

    def after(self, state: State, is_picked: tf.Tensor) -> State:
        """Returns what is remembered once one candidate, or none, is shown.

        Args:
            state: of the places above.
            is_picked: [B, C] bool, True for one at most.
        """
        which = is_picked[..., tf.newaxis]
        changed: State = ()
        if self._values is not None:
            shown = tf.reduce_max(tf.where(which, self._values, NO_VALUE), axis=1)
            is_same = self._values[..., tf.newaxis] == shown[:, tf.newaxis, tf.newaxis]
            is_shared = tf.reduce_any(is_same, axis=-1) & (self._values != NO_VALUE)
            changed += (state[0] + tf.cast(is_shared, tf.int32),)
        if self._vectors is not None:
            shown = tf.reduce_sum(tf.where(which, self._vectors, 0.0), axis=1)
            cosines = tf.einsum("bck,bk->bc", self._vectors, shown)
            is_any = tf.reduce_any(is_picked, axis=1, keepdims=True)
            nearest = tf.where(is_any, cosines, _LEAST_COSINE)
            changed += (tf.maximum(state[-1], nearest),)
        return changed

    def fitting(
        self, state: State, is_left: tf.Tensor, order: tf.Tensor
    ) -> tf.Tensor | bool:
        """Returns [B, C] bool: candidates that the caps allow all together.

        Args:
            state: of the places above.
            is_left: [B, C] bool, the candidates that no place above shows.
            order: [B, C] int32, columns: those first in it are taken first.
        """
        if self._values is None:
            return True
        values = tf.where(is_left[..., tf.newaxis], self._values, NO_VALUE)
        ordered = tf.gather(values, order, batch_dims=1)
        used = tf.gather(state[0], order, batch_dims=1)
        fits = within_caps(ordered, self._limits, used)
        return tf.gather(fits, tf.argsort(order, axis=1), batch_dims=1)


def within_caps(
    values: tf.Tensor, limits: tf.Tensor, used: tf.Tensor | int = 0
) -> tf.Tensor:
    """Returns which items of an order all fit under the caps, decided at once.

    An item fits if, of each of its values, fewer than the limit stand before it. Where
    items have one value each, these are the items that going through the order one by
    one would take. Else it may leave out an item behind one that is left out itself,
    which keeps it to one sort.

    Args:
        values: int32 [B, F, L], of items in their order; `NO_VALUE` for none.
        limits: int32 [L].
        used: int32 [B, F, L], how often each value stands above the order already.

    Returns:
        fits: bool [B, F].
    """
    shape = tf.shape(values)
    flat = tf.reshape(values, [shape[0], shape[1] * shape[2]])
    order = tf.argsort(flat, axis=1, stable=True)
    ascending = tf.gather(flat, order, batch_dims=1)
    before = tf.range(shape[1] * shape[2]) - tf.searchsorted(ascending, ascending)
    before = tf.gather(before, tf.argsort(order, axis=1), batch_dims=1)
    counts = tf.reshape(before, shape) + used
    return tf.reduce_all((counts < limits) | (values == NO_VALUE), axis=-1)
