"""Convolutions over the newest events of a history."""

import tensorflow as tf


def newest_ids(history_ids: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the newest ids of each row.

    Args:
        history_ids: [B, T] integer, oldest first, 0 pads on whichever side.
        count: L, how many.

    Returns:
        ids: [B, L], oldest first, padded with 0 on the left.
    """
    padded = tf.pad(history_ids, [[0, 0], [count, 0]])
    column = tf.range(tf.shape(padded)[1])
    places, _ = tf.math.top_k(tf.where(padded != 0, column, -1), k=count)
    ids = tf.gather(padded, tf.maximum(places, 0), batch_dims=1)
    return tf.reverse(tf.where(places >= 0, ids, 0), axis=[1])


@tf.keras.utils.register_keras_serializable("tandem")
class ConvSequence(tf.keras.layers.Layer):
    """Patterns of a window of L events, seen as an image of L x E.

    horizontal: for each height h = 1 .. L, n_h filters of h x E over the window,
                ReLU, the largest over time: what happens in a row of h events
    vertical:   n_v filters of L x 1: weighted sums of the events

    Args:
        horizontal_filters: n_h of each height.
        vertical_filters: n_v.

    References:
        [1] Tang, Wang. Personalized Top-N Sequential Recommendation via Convolutional
            Sequence Embedding. WSDM 2018. Section 3.2.
    """

    def __init__(
        self, horizontal_filters: int = 16, vertical_filters: int = 4, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (
            ("horizontal_filters", horizontal_filters),
            ("vertical_filters", vertical_filters),
        ):
            if value < 1:
                raise ValueError(f"`{name}` should be >= 1. Received: {name}={value}")
        self.horizontal_filters = horizontal_filters
        self.vertical_filters = vertical_filters

    def build(self, input_shape: tf.TensorShape) -> None:
        _, num_events, dim = input_shape
        self.horizontal = [
            (
                self.add_weight(
                    f"horizontal_{height}", (height, dim, self.horizontal_filters)
                ),
                self.add_weight(
                    f"horizontal_bias_{height}",
                    (self.horizontal_filters,),
                    initializer="zeros",
                ),
            )
            for height in range(1, num_events + 1)
        ]
        self.vertical = self.add_weight("vertical", (num_events, self.vertical_filters))
        super().build(input_shape)

    def call(self, window: tf.Tensor) -> tf.Tensor:
        """Returns [B, n_v * E + L * n_h], the vertical features first.

        Args:
            window: [B, L, E] float, oldest first; zeros where no event is.
        """
        # [B, E, n_v]: an event's weight is the same for each of its components.
        vertical = tf.einsum("ble,lv->bev", window, self.vertical)
        size = window.shape[-1] * self.vertical_filters
        features = [tf.reshape(vertical, [-1, size])]
        for kernel, bias in self.horizontal:
            found = tf.nn.conv1d(window, kernel, stride=1, padding="VALID")
            features.append(tf.reduce_max(tf.nn.relu(found + bias), axis=1))
        return tf.concat(features, axis=-1)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "horizontal_filters": self.horizontal_filters,
            "vertical_filters": self.vertical_filters,
        }
