"""How much each event of a history matters to each candidate."""

from collections.abc import Sequence

import tensorflow as tf


def masked_softmax(logits: tf.Tensor, is_kept: tf.Tensor) -> tf.Tensor:
    """Returns the softmax over the last axis of what is kept.

    Args:
        logits: [..., T] float.
        is_kept: bool, broadcast to the shape of `logits`.

    Returns:
        share: [..., T], 0 where nothing is kept, else 1 in total.
    """
    # A finite floor: a row that keeps nothing gets some shares, which are then dropped,
    # instead of NaN.
    shares = tf.nn.softmax(tf.where(is_kept, logits, logits.dtype.min / 2))
    return tf.where(is_kept, shares, tf.zeros_like(shares))


@tf.keras.utils.register_keras_serializable("tandem")
class TargetAttention(tf.keras.layers.Layer):
    """A share for each event and candidate: the softmax of a network on both.

    logits[c, t] = w sigmoid(.. sigmoid(W [q, k, q - k, q * k] + b) ..)

    with q the candidate and k the event. What q - k is multiplied with adds to what q
    and k are, so three matrices say the same as four, and those of q and k are applied
    before the pairs are made.

    Args:
        hidden: units of the sigmoid layers.

    References:
        [1] Zhou et al. Deep Interest Network for Click-Through Rate Prediction. KDD
            2018. Section 4.3, with the softmax of DIEN.
    """

    def __init__(self, hidden: Sequence[int] = (80, 40), **kwargs) -> None:
        super().__init__(**kwargs)
        if not hidden:
            raise ValueError(
                f"`hidden` should name one layer or more. Received: hidden={hidden}"
            )
        self.hidden = tuple(hidden)
        dense = tf.keras.layers.Dense
        first, *rest = self.hidden
        self.of_query = dense(first, name="of_query")
        self.of_key, self.of_product = (
            dense(first, use_bias=False, name=name) for name in ("of_key", "of_product")
        )
        self.dense = [
            dense(units, activation="sigmoid", name=f"dense_{place}")
            for place, units in enumerate(rest)
        ]
        # A bias of the last layer would add the same to each logit of a row.
        self.logit = dense(1, use_bias=False, name="logit")

    def call(
        self, queries: tf.Tensor, keys: tf.Tensor, is_event: tf.Tensor
    ) -> tf.Tensor:
        """Returns the shares.

        Args:
            queries: [B, C, K] float.
            keys: [B, T, K] float.
            is_event: bool [B, T].

        Returns:
            share: [B, C, T], 1 in total for each candidate, 0 where no event is.
        """
        pairs = queries[:, :, tf.newaxis] * keys[:, tf.newaxis]  # [B, C, T, K]
        hidden = tf.sigmoid(
            self.of_query(queries)[:, :, tf.newaxis]
            + self.of_key(keys)[:, tf.newaxis]
            + self.of_product(pairs)
        )
        for dense in self.dense:
            hidden = dense(hidden)
        logits = tf.squeeze(self.logit(hidden), axis=-1)
        return masked_softmax(logits, is_event[:, tf.newaxis])

    def get_config(self) -> dict:
        return {**super().get_config(), "hidden": self.hidden}
