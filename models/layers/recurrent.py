"""Recurrences over a history: what is read of its events, one after the other.

Padding leaves a state as it is, wherever it stands, and a history without events leaves
zeros. Inputs are projected for all steps at once, so that a step costs the products with
the state alone. The GRU, which has a gradient of its own, is `gru.py`'s.
"""

from collections.abc import Callable

import tensorflow as tf

States = tuple[tf.Tensor, ...]


def left_aligned(history_ids: tf.Tensor) -> tf.Tensor:
    """Moves padding behind the events, for recurrences that know of no padding.

    Args:
        history_ids: [B, T] integer, oldest first, 0 pads on whichever side.

    Returns:
        ids: [B, T], the same events in the same order from the first column on.
    """
    is_event = tf.not_equal(history_ids, 0)
    place = tf.cumsum(tf.cast(is_event, tf.int64), axis=1, exclusive=True)
    found = tf.where(is_event)  # [N, 2]
    moved = tf.stack([found[:, 0], tf.boolean_mask(place, is_event)], axis=1)
    shape = tf.shape(history_ids, out_type=tf.int64)
    return tf.scatter_nd(moved, tf.boolean_mask(history_ids, is_event), shape)


def state_after(states: tf.Tensor, num_events: tf.Tensor) -> tf.Tensor:
    """Returns the state of each row after its last event.

    Args:
        states: [T + 1, B, H], as `gru.Gru` gives them.
        num_events: [B] integer, of rows that begin with their events.

    Returns:
        state: [B, H]; the first state for a row without events.
    """
    rows = tf.range(tf.shape(states)[1])
    places = tf.stack([tf.cast(num_events, tf.int32), rows], axis=1)
    return tf.gather_nd(states, places)


def scan_events(
    step: Callable[[States, tuple[tf.Tensor, ...]], States],
    inputs: tuple[tf.Tensor, ...],
    is_event: tf.Tensor,
    start: States,
) -> States:
    """Returns the states after the last event of each row.

    state = step(state, inputs[:, t]) if is_event[:, t] else state, for t = 0 .. T - 1

    Args:
        step: from the states and one step's inputs, [B, ...] each, to the next states.
        inputs: [B, T, ...] each.
        is_event: bool [B, T].
        start: [B, ...] each.
    """
    num_steps = tf.shape(is_event)[1]
    columns = [
        tf.TensorArray(values.dtype, num_steps).unstack(
            tf.transpose(values, [1, 0, *range(2, values.shape.rank)])
        )
        for values in (is_event, *inputs)
    ]

    def body(time: tf.Tensor, states: States) -> tuple[tf.Tensor, States]:
        is_now, *now = (column.read(time) for column in columns)
        states = tuple(
            tf.ensure_shape(tf.where(_as_wide(is_now, old), new, old), old.shape)
            for new, old in zip(step(states, tuple(now)), states, strict=True)
        )
        return time + 1, states

    return tf.while_loop(lambda time, _: time < num_steps, body, (0, start))[1]


def product(states: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns states [B, H] or [B, C, H] times kernel [H, G]."""
    # A matmul of [B, C, H] by [H, G] would make a gradient of [B, H, G].
    if states.shape.rank == 2:
        return tf.matmul(states, kernel)
    return tf.tensordot(states, kernel, axes=1)


def _as_wide(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """[B] to [B, 1, ..] of the rank of `values`."""
    return tf.reshape(mask, [-1, *[1] * (values.shape.rank - 1)])


class RecurrentLayer(tf.keras.layers.Layer):
    """The weights of a cell that has `num_gates` blocks of `units`.

    Args:
        units: H, length of a state.
    """

    num_gates: int

    def __init__(self, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"`units` should be >= 1. Received: units={units}")
        self.units = units

    def build(self, input_shape: tf.TensorShape) -> None:
        width = self.num_gates * self.units
        self.kernel = self.add_weight("kernel", (input_shape[-1], width))
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel", (self.units, width), initializer="orthogonal"
        )
        self.bias = self.add_weight("bias", (width,), initializer=self._first_bias)
        super().build(input_shape)

    def _first_bias(self, shape: tuple, dtype: tf.DType | None = None) -> tf.Tensor:
        return tf.zeros(shape, dtype or tf.float32)

    def project(self, vectors: tf.Tensor) -> tf.Tensor:
        """Returns what inputs [B, T, E] add to the gates, [B, T, num_gates * H]."""
        return product(vectors, self.kernel) + self.bias

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units}


@tf.keras.utils.register_keras_serializable("tandem")
class Lstm(RecurrentLayer):
    """A long short-term memory.

    i, f, o = sigmoid(x W + h U + b) each;  g = tanh(x W_g + h U_g + b_g)
    c = f * c + i * g;  h = o * tanh(c)

    Weights stand in the order i, f, o, g. The bias of f starts at 1: forget little.

    Args:
        units: H, length of c and of h.

    References:
        [1] Hochreiter, Schmidhuber. Long Short-Term Memory. Neural Computation 1997,
            with the forget gate of Gers et al., Neural Computation 2000.
    """

    num_gates = 4

    def call(self, vectors: tf.Tensor, is_event: tf.Tensor) -> tf.Tensor:
        """Returns (c, h) after the last event, joined: [B, 2 H].

        Args:
            vectors: [B, T, E] float, oldest first.
            is_event: bool [B, T].
        """
        kernel = tf.convert_to_tensor(self.recurrent_kernel)
        projected = self.project(vectors)

        def step(states: States, inputs: tuple[tf.Tensor, ...]) -> States:
            cell, hidden = states
            gates = inputs[0] + product(hidden, kernel)
            write, keep, show, new = tf.split(gates, 4, axis=-1)
            cell = tf.sigmoid(keep) * cell + tf.sigmoid(write) * tf.tanh(new)
            return cell, tf.sigmoid(show) * tf.tanh(cell)

        empty = tf.zeros([tf.shape(vectors)[0], self.units], projected.dtype)
        return tf.concat(
            scan_events(step, (projected,), is_event, (empty, empty)), axis=-1
        )

    def _first_bias(self, shape: tuple, dtype: tf.DType | None = None) -> tf.Tensor:
        forget = tf.one_hot(1, self.num_gates, dtype=dtype or tf.float32)
        return tf.repeat(forget, shape[0] // self.num_gates)
