"""What a state after an event should tell: which event comes next."""

from collections.abc import Sequence

import tensorflow as tf


def events_of_other_rows(is_event: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws, for each place of each row, an event of another row of the batch.

    Every event of the other rows is as likely; a row never draws its own.

    Args:
        is_event: bool [B, T].

    Returns:
        place: int32 [B, T], b * T + t of the drawn event.
        is_drawn: bool [B, 1], False where the other rows have no event.
    """
    # Events stand row by row, so a row's own are one stretch, which the draw skips.
    places = tf.cast(tf.where(tf.reshape(is_event, [-1])), tf.int32)[:, 0]
    own = tf.reduce_sum(tf.cast(is_event, tf.int32), axis=1, keepdims=True)  # [B, 1]
    before = tf.cumsum(own, axis=0, exclusive=True)
    others = tf.size(places) - own
    uniform = tf.random.uniform(tf.shape(is_event))
    drawn = tf.cast(uniform * tf.cast(others, tf.float32), tf.int32)
    # A float below 1 times a large count may round up to the count.
    drawn = tf.maximum(tf.minimum(drawn, others - 1), 0)
    drawn += tf.where(drawn >= before, own, 0)
    is_drawn = others > 0
    padded = tf.concat([places, [0]], axis=0)  # to be read where there is no event
    return tf.gather(padded, tf.where(is_drawn, drawn, tf.size(places))), is_drawn


@tf.keras.utils.register_keras_serializable("tandem")
class NextEventLoss(tf.keras.layers.Layer):
    """Asks of each state to tell the next event from one of another row.

    loss = -mean over t of log p(h_t, e_{t+1}) + log(1 - p(h_t, e'_{t+1})),
    p(h, e) = sigmoid(MLP([h, e])), e' drawn by `events_of_other_rows`

    The mean is over pairs of neighbouring events; padding is in none. A drawn event
    with the id of the next event counts as no negative.

    Args:
        hidden: units of the network's sigmoid layers.

    References:
        [1] Zhou et al. Deep Interest Evolution Network for Click-Through Rate
            Prediction. AAAI 2019. Eq. (6), auxiliary loss.
    """

    def __init__(self, hidden: Sequence[int] = (100, 50), **kwargs) -> None:
        super().__init__(**kwargs)
        self.hidden = tuple(hidden)
        self.dense = [
            tf.keras.layers.Dense(units, activation="sigmoid", name=f"dense_{place}")
            for place, units in enumerate(self.hidden)
        ]
        self.logit = tf.keras.layers.Dense(1, name="logit")

    def call(self, states: tf.Tensor, events: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        """Returns the loss, a float32 scalar; 0 without a pair.

        Args:
            states: h, [B, T, H] float.
            events: e, [B, T, E] float, oldest first.
            ids: [B, T] integer, of the events; 0 pads.
        """
        is_event = tf.not_equal(ids, 0)
        place, is_drawn = events_of_other_rows(is_event)
        place = place[:, 1:]
        drawn = tf.gather(tf.reshape(events, [-1, events.shape[-1]]), place)
        is_pair = is_event[:, :-1] & is_event[:, 1:]
        is_other = tf.gather(tf.reshape(ids, [-1]), place) != ids[:, 1:]
        before = states[:, :-1]
        found = tf.nn.softplus(-self._logits(before, events[:, 1:]))  # -log p
        rejected = tf.nn.softplus(self._logits(before, drawn))  # -log(1 - p)
        zero = tf.zeros_like(found)
        total = tf.reduce_sum(tf.where(is_pair, found, zero)) + tf.reduce_sum(
            tf.where(is_pair & is_drawn & is_other, rejected, zero)
        )
        num_pairs = tf.reduce_sum(tf.cast(is_pair, tf.float32))
        return tf.math.divide_no_nan(total, num_pairs)

    def _logits(self, states: tf.Tensor, events: tf.Tensor) -> tf.Tensor:
        """[B, T - 1, H] and [B, T - 1, E] to float32 [B, T - 1]."""
        hidden = tf.concat([states, events], axis=-1)
        for dense in self.dense:
            hidden = dense(hidden)
        return tf.cast(tf.squeeze(self.logit(hidden), axis=-1), tf.float32)

    def get_config(self) -> dict:
        return {**super().get_config(), "hidden": self.hidden}
