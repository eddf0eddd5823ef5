"""A gated recurrent unit, over a sequence or a step at a time.

Keras's own keeps every product of every step for its gradient. The one here keeps the
states alone and makes the gates of all steps anew at once, in half the time of a step.
Masks are deliberately absent: a state before the padding is not moved by it.
"""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable("tandem")
class Gru(tf.keras.layers.Layer):
    """The states of a GRU, with the reset before the product, as in TF1's `GRUCell`.

    r  = sigmoid(W_r x + U_r h + b_r)         reset
    u  = sigmoid(W_u x + U_u h + b_u)         keep
    c  = tanh(W_c x + U_c (r * h) + b_c)
    h' = u * h + (1 - u) * c

    The biases of both gates start at 1: at first, most of a state is kept.

    Args:
        input_dim: length E of the inputs.
        units: length H of a state.

    References:
        [1] Cho et al. Learning Phrase Representations using RNN Encoder-Decoder for
            Statistical Machine Translation. EMNLP 2014. Eq. (5) to (8), where z keeps.
    """

    def __init__(self, input_dim: int, units: int, **kwargs) -> None:
        super().__init__(**kwargs)
        for name, value in (("input_dim", input_dim), ("units", units)):
            if value < 1:
                raise ValueError(f"`{name}` should be >= 1. Received: {name}={value}")
        self.input_dim = input_dim
        self.units = units
        # Columns: reset, keep, candidate.
        self.kernel = self.add_weight(
            f"{self.name}/kernel", (input_dim, 3 * units), initializer="glorot_uniform"
        )
        self.recurrent_gates = self.add_weight(
            f"{self.name}/recurrent_gates",
            (units, 2 * units),
            initializer="glorot_uniform",
        )
        self.recurrent_candidate = self.add_weight(
            f"{self.name}/recurrent_candidate", (units, units), initializer="orthogonal"
        )
        self.gate_bias = self.add_weight(
            f"{self.name}/gate_bias", (2 * units,), initializer="ones"
        )
        self.candidate_bias = self.add_weight(
            f"{self.name}/candidate_bias", (units,), initializer="zeros"
        )

    def step(self, inputs: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """Returns the next state, [B, H], after inputs [B, E] in a state [B, H]."""
        _, keep, new = _gates(
            self._projected(inputs),
            state,
            self.recurrent_gates,
            self.recurrent_candidate,
        )
        return _moved(state, keep, new)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Runs over sequences from a state of zeros.

        Args:
            inputs: [T, B, E] float, finite, the time first.

        Returns:
            states: [T + 1, B, H]; the first is before the first input.
        """
        return _all_states(
            self._projected(inputs),
            tf.convert_to_tensor(self.recurrent_gates),
            tf.convert_to_tensor(self.recurrent_candidate),
        )

    def _projected(self, inputs: tf.Tensor) -> tf.Tensor:
        bias = tf.concat([self.gate_bias, self.candidate_bias], axis=0)
        flat = tf.matmul(tf.reshape(inputs, [-1, self.input_dim]), self.kernel) + bias
        shape = tf.concat([tf.shape(inputs)[:-1], [3 * self.units]], axis=0)
        return tf.ensure_shape(
            tf.reshape(flat, shape), [*inputs.shape[:-1], 3 * self.units]
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "input_dim": self.input_dim,
            "units": self.units,
        }


def _gates(
    projected: tf.Tensor, state: tf.Tensor, gates: tf.Tensor, candidate: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns reset, keep and candidate, [..., H] each, of inputs' products [..., 3H]."""
    units = state.shape[-1]
    both = tf.sigmoid(projected[..., : 2 * units] + tf.matmul(state, gates))
    reset, keep = tf.split(both, 2, axis=-1)
    moved = projected[..., 2 * units :] + tf.matmul(reset * state, candidate)
    return reset, keep, tf.tanh(moved)


def _moved(state: tf.Tensor, keep: tf.Tensor, candidate: tf.Tensor) -> tf.Tensor:
    return candidate + keep * (state - candidate)


@tf.custom_gradient
def _all_states(
    projected: tf.Tensor, gates: tf.Tensor, candidate: tf.Tensor
) -> tuple[tf.Tensor, object]:
    """Returns the states [T + 1, B, H] of inputs' products [T, B, 3H]."""
    units = candidate.shape[0]
    num_steps, batch = tf.shape(projected)[0], tf.shape(projected)[1]
    inputs = tf.TensorArray(projected.dtype, num_steps).unstack(projected)
    start = tf.zeros([batch, units], projected.dtype)

    def forward(step: tf.Tensor, state: tf.Tensor, found: tf.TensorArray) -> tuple:
        _, keep, new = _gates(inputs.read(step), state, gates, candidate)
        state = _moved(state, keep, new)
        return step + 1, state, found.write(step + 1, state)

    found = tf.TensorArray(projected.dtype, num_steps + 1, element_shape=start.shape)
    states = _loop(
        lambda step, *_: step < num_steps, forward, 0, start, found.write(0, start)
    )

    def gradient(d_states: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # All steps side by side, [T * B, H], as their states are known by now.
        before = tf.reshape(states[:-1], [-1, units])
        flat = tf.reshape(projected, [-1, 3 * units])
        reset, keep, new = _gates(flat, before, gates, candidate)
        d_flat = _gradient_by_step(
            (before, reset, keep, new), d_states, gates, candidate
        )
        d_gates, d_new = d_flat[:, : 2 * units], d_flat[:, 2 * units :]
        return (
            tf.reshape(d_flat, tf.shape(projected)),
            tf.matmul(before, d_gates, transpose_a=True),
            tf.matmul(reset * before, d_new, transpose_a=True),
        )

    return states, gradient


def _gradient_by_step(
    steps: tuple[tf.Tensor, ...],
    d_states: tf.Tensor,
    gates: tf.Tensor,
    candidate: tf.Tensor,
) -> tf.Tensor:
    """Returns the gradient of the inputs' products, back in time from the last step.

    With h the state before a step, and d the gradient of the one after it:
        d_c = d (1 - u) (1 - c^2)     d_u = d (h - c) u (1 - u)
        d_r = (d_c U_c^T) h r (1 - r)
        gradient of h = d u + (d_c U_c^T) r + [d_r d_u] U_gates^T

    Args:
        steps: h, r, u and c of all steps, [T * B, H] each.
        d_states: [T + 1, B, H], the gradient of the states by what reads them.
        gates: [H, 2H].
        candidate: [H, H].

    Returns:
        [T * B, 3H], of reset, keep and candidate.
    """
    units = candidate.shape[0]
    num_steps, batch = tf.shape(d_states)[0] - 1, tf.shape(d_states)[1]
    before, reset, keep, new = steps

    def by_step(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(values, [num_steps, batch, units])

    of_new = by_step((1 - keep) * (1 - tf.square(new)))
    of_keep = by_step((before - new) * keep * (1 - keep))
    of_reset = by_step(before * reset * (1 - reset))
    reset, keep = by_step(reset), by_step(keep)

    def backward(step: tf.Tensor, d_state: tf.Tensor, found: tf.TensorArray) -> tuple:
        d_new = d_state * of_new[step]
        d_held = tf.matmul(d_new, candidate, transpose_b=True)
        d_gates = tf.concat([d_held * of_reset[step], d_state * of_keep[step]], axis=1)
        found = found.write(step + 1, tf.concat([d_gates, d_new], axis=1))
        d_state = (
            d_state * keep[step]
            + d_held * reset[step]
            + tf.matmul(d_gates, gates, transpose_b=True)
            + d_states[step]
        )
        return step - 1, d_state, found

    # The first is of no step: an array without anything cannot be stacked.
    start = tf.zeros([batch, 3 * units], d_states.dtype)
    found = tf.TensorArray(d_states.dtype, num_steps + 1, element_shape=start.shape)
    last = tf.ensure_shape(d_states[num_steps], [None, units])
    d_products = _loop(
        lambda step, *_: step >= 0,
        backward,
        num_steps - 1,
        last,
        found.write(0, start),
    )
    return tf.reshape(d_products[1:], [num_steps * batch, 3 * units])


def _loop(condition, body, first, state: tf.Tensor, found: tf.TensorArray) -> tf.Tensor:
    """Returns what the loop's steps wrote, stacked."""
    invariants = [
        tf.TensorShape([]),
        tf.TensorShape([None, state.shape[-1]]),
        tf.TensorShape(None),
    ]
    *_, found = tf.while_loop(
        condition,
        body,
        [tf.convert_to_tensor(first), state, found],
        shape_invariants=invariants,
        parallel_iterations=1,
    )
    return found.stack()
