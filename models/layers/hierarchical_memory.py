"""A user's whole history in a few vectors, each renewed at a pace of its own.

The memory is written from a history at once (training), or an event at a time (serving):
both give the same. The item to score is never written. What a target reads of a memory
is `memory_read.py`'s.
"""

from collections.abc import Sequence

import tensorflow as tf

from models.layers.gru import Gru


@tf.keras.utils.register_keras_serializable("tandem")
class HierarchicalMemory(tf.keras.layers.Layer):
    """D layers of GRUs, the upper ones slower than the lower.

    m[i, 0] = x_i, the i-th event
    m[i, j] = GRU_j(m[i, j-1], m[i-1, j])  if i mod period_j = 0
              m[i-1, j]                    otherwise
    m[0, j] = 0

    A layer reads what the layer below holds after event i. Events are counted, not
    columns: where padding stands changes nothing.

    Args:
        event_dim: length E of an event's vector.
        units: length H of a slot.
        periods: of each layer, from the lowest; >= 1, in any relation to each other.

    References:
        [1] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019.
    """

    def __init__(
        self, event_dim: int, units: int, periods: Sequence[int], **kwargs
    ) -> None:
        # What thousands of steps add up to is lost in a half-precision state.
        super().__init__(**{"dtype": "float32", **kwargs})
        if not periods or min(periods) < 1:
            raise ValueError(
                "`periods` should hold one number or more, each >= 1. "
                f"Received: periods={periods}"
            )
        self.event_dim = event_dim
        self.units = units
        self.periods = tuple(periods)
        self.layers = [
            Gru(
                units if place else event_dim,
                units,
                name=f"{self.name}/layer_{place}",
                dtype=self.dtype,
            )
            for place in range(len(self.periods))
        ]

    def call(self, events: tf.Tensor, is_event: tf.Tensor) -> tf.Tensor:
        """Writes whole histories into empty memories.

        Costs a product of matrices a step, of which layer j has T / period_j.

        Args:
            events: [B, T, E] float, oldest first, finite everywhere.
            is_event: bool [B, T]; False pads, on either side or in between.

        Returns:
            memory: [B, D, H].
        """
        counts = tf.reduce_sum(tf.cast(is_event, tf.int32), axis=1)  # [B]
        ordered = _events_first(events, is_event)  # [T, B, E]
        num_events = tf.shape(ordered)[0]
        rows = tf.range(tf.shape(counts)[0])
        slots = []
        states, below = ordered, 0
        for layer, period in zip(self.layers, self.periods, strict=True):
            if below == 0:
                inputs = ordered[period - 1 :: period]
            else:
                inputs = _every(states, below, period, num_events)
            states, below = layer(inputs), period  # [1 + T // period, B, H]
            # What comes behind a row's last event is padding, and not looked at.
            slots.append(tf.gather_nd(states, tf.stack([counts // period, rows], 1)))
        return tf.stack(slots, axis=1)

    def update(
        self,
        memory: tf.Tensor,
        step: tf.Tensor,
        events: tf.Tensor,
        is_event: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Writes one more event of each user; costs the same after any number.

        Args:
            memory: [B, D, H]; zeros for a user without events.
            step: integer [B], how many events were written.
            events: [B, E] float, finite.
            is_event: bool [B]; where False, nothing changes. None means all True.

        Returns:
            memory: [B, D, H], and step: [B].
        """
        if is_event is None:
            is_event = tf.ones_like(step, tf.bool)
        step += tf.cast(is_event, step.dtype)
        slots, below = [], events
        for place, (layer, period) in enumerate(
            zip(self.layers, self.periods, strict=True)
        ):
            is_due = is_event & tf.equal(step % period, 0)
            slot = memory[:, place]
            below = tf.where(is_due[:, tf.newaxis], layer.step(below, slot), slot)
            slots.append(below)
        return tf.stack(slots, axis=1), step

    def empty(self, batch: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns memory and step of users without events."""
        shape = [batch, len(self.periods), self.units]
        return tf.zeros(shape), tf.zeros([batch], tf.int64)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "event_dim": self.event_dim,
            "units": self.units,
            "periods": self.periods,
        }


def _every(
    states: tf.Tensor, below: int, period: int, num_events: tf.Tensor
) -> tf.Tensor:
    """Returns what a layer reads at each of its steps of the layer below.

    Args:
        states: [1 + T // below, B, H], of the layer below; the first is its start.
        below: its period.
        period: of the layer that reads.
        num_events: T.

    Returns:
        [T // period, B, H].
    """
    if period % below == 0:
        ratio = period // below
        return states[ratio::ratio]
    events = period * tf.range(1, num_events // period + 1)
    return tf.gather(states, events // below)


def _events_first(events: tf.Tensor, is_event: tf.Tensor) -> tf.Tensor:
    """Moves each row's padding behind its events, and the time to the first axis.

    Args:
        events: [B, T, E].
        is_event: bool [B, T].

    Returns:
        [T, B, E], in the order they had.
    """
    batch, length = tf.shape(events)[0], tf.shape(events)[1]
    is_one = tf.cast(is_event, tf.int32)
    count = tf.reduce_sum(is_one, axis=1, keepdims=True)
    place = tf.where(
        is_event,
        tf.cumsum(is_one, axis=1, exclusive=True),
        count + tf.cumsum(1 - is_one, axis=1, exclusive=True),
    )  # [B, T], where each column goes
    targets = tf.reshape(place * batch + tf.range(batch)[:, tf.newaxis], [-1])
    sources = tf.scatter_nd(
        targets[:, tf.newaxis], tf.range(batch * length), [batch * length]
    )
    dim = events.shape[-1]
    moved = _permuted(tf.reshape(events, [-1, dim]), sources, targets)
    return tf.reshape(moved, [length, batch, dim])


@tf.custom_gradient
def _permuted(values: tf.Tensor, order: tf.Tensor, inverse: tf.Tensor):
    """Returns `values[order]`, whose gradient is a look-up, too, and not a sum."""

    def gradient(d_moved: tf.Tensor) -> tuple[tf.Tensor, None, None]:
        return tf.gather(d_moved, inverse), None, None

    return tf.gather(values, order), gradient
