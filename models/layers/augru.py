"""A GRU whose update gate is scaled by how much each event matters to a candidate."""

import tensorflow as tf

from models.layers.options import AugruForm
from models.layers.recurrent import RecurrentLayer, States, product, scan_events


@tf.keras.utils.register_keras_serializable("tandem")
class Augru(RecurrentLayer):
    """A GRU with attentional update gate: one state for each candidate.

    u = sigmoid(x W_u + h U_u + b_u)            how much of the new enters
    r = sigmoid(x W_r + h U_r + b_r)
    c = tanh(x W_c + (r * h) U_c + b_c)
    h = (1 - s) * h + s * c

    paper: s = a * u                    a = 0 leaves the state, a = 1 is a plain GRU
    code:  s = 1 - (1 - a) * (1 - u)    a = 0 is a plain GRU, a = 1 overwrites the state

    The authors' program scales TensorFlow's gate, which is the share of the old, so
    that its events without attention still move the state.

    Weights stand in the order u, r, c. What the events add to the gates is computed once
    for all candidates.

    Args:
        units: H, length of the state.
        form: which of the two.

    References:
        [1] Zhou et al. Deep Interest Evolution Network for Click-Through Rate
            Prediction. AAAI 2019. Section 4.3, AUGRU.
    """

    num_gates = 3

    def __init__(
        self, units: int, form: AugruForm | str = AugruForm.PAPER, **kwargs
    ) -> None:
        super().__init__(units, **kwargs)
        self.form = AugruForm(form)

    def call(
        self, vectors: tf.Tensor, attention: tf.Tensor, is_event: tf.Tensor
    ) -> tf.Tensor:
        """Returns the state after the last event, [B, C, H].

        Args:
            vectors: [B, T, E] float, oldest first.
            attention: [B, C, T] in [0, 1].
            is_event: bool [B, T].
        """
        split = [2 * self.units, self.units]
        gate_kernel, kernel = tf.split(
            tf.convert_to_tensor(self.recurrent_kernel), split, axis=1
        )
        projected = self.project(vectors)[:, :, tf.newaxis]  # [B, T, 1, 3 H]

        def step(states: States, inputs: tuple[tf.Tensor, ...]) -> States:
            (state,), (projected, attention) = states, inputs
            of_gates, of_candidate = tf.split(projected, split, axis=-1)
            gates = tf.sigmoid(of_gates + product(state, gate_kernel))
            update, reset = tf.split(gates, 2, axis=-1)
            candidate = tf.tanh(of_candidate + product(reset * state, kernel))
            share = self._share(attention, update)
            return (state + share * (candidate - state),)

        by_step = tf.transpose(attention, [0, 2, 1])[..., tf.newaxis]  # [B, T, C, 1]
        shape = tf.concat([tf.shape(attention)[:2], [self.units]], axis=0)
        empty = tf.zeros(shape, projected.dtype)
        return scan_events(step, (projected, by_step), is_event, (empty,))[0]

    def _share(self, attention: tf.Tensor, update: tf.Tensor) -> tf.Tensor:
        if self.form is AugruForm.PAPER:
            return attention * update
        return 1 - (1 - attention) * (1 - update)

    def get_config(self) -> dict:
        return {**super().get_config(), "form": self.form.value}
