"""Memories of a user's events that a candidate reads."""

import tensorflow as tf

from models.layers.recurrent import States, scan_events
from models.layers.target_attention import masked_softmax


def read_items(queries: tf.Tensor, memory: tf.Tensor, is_event: tf.Tensor) -> tf.Tensor:
    """Reads a memory whose slots are events.

    z = softmax_k(q . m_k) over the slots that hold an event;  p = sum_k z_k m_k

    Args:
        queries: q, [B, C, E] float.
        memory: m, [B, K, E] float.
        is_event: bool [B, K].

    Returns:
        read: [B, C, E]; zeros where no slot is filled.

    References:
        [1] Chen et al. Sequential Recommendation with User Memory Networks. WSDM 2018.
            Section 3.3, item-level.
    """
    logits = tf.matmul(queries, memory, transpose_b=True)
    share = masked_softmax(logits, is_event[:, tf.newaxis])
    return tf.matmul(share, memory)


@tf.keras.utils.register_keras_serializable("tandem")
class FeatureMemory(tf.keras.layers.Layer):
    """A memory whose slots are features, addressed by keys that all users share.

    address: z_k = softmax_k(f_k . q)
    read:    p   = sum_k z_k m_k
    write:   m_k = m_k * (1 - z_k e) + z_k a,  e = sigmoid(W_e q + b_e),
                                               a = tanh(W_a q + b_a)

    An empty memory is zeros. Events are written oldest first, padding never.

    Args:
        num_slots: K.

    References:
        [1] Chen et al. Sequential Recommendation with User Memory Networks. WSDM 2018.
            Section 3.4, feature-level.
    """

    def __init__(self, num_slots: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if num_slots < 1:
            raise ValueError(
                f"`num_slots` should be >= 1. Received: num_slots={num_slots}"
            )
        self.num_slots = num_slots

    def build(self, input_shape: tf.TensorShape) -> None:
        dim = input_shape[-1]
        # The keys f are the columns of its kernel.
        self.address = tf.keras.layers.Dense(
            self.num_slots, use_bias=False, activation="softmax", name="address"
        )
        self.erase = tf.keras.layers.Dense(dim, activation="sigmoid", name="erase")
        self.add = tf.keras.layers.Dense(dim, activation="tanh", name="add")
        super().build(input_shape)

    def call(self, events: tf.Tensor, is_event: tf.Tensor) -> tf.Tensor:
        """Writes events to an empty memory.

        Args:
            events: q, [B, T, E] float, oldest first.
            is_event: bool [B, T].

        Returns:
            memory: m, [B, K, E].
        """
        inputs = (self.address(events), self.erase(events), self.add(events))
        shape = [tf.shape(events)[0], self.num_slots, events.shape[-1]]
        empty = tf.zeros(shape, events.dtype)
        return scan_events(_write, inputs, is_event, (empty,))[0]

    def read(self, queries: tf.Tensor, memory: tf.Tensor) -> tf.Tensor:
        """Returns p, [B, C, E], of queries q [B, C, E] and memory [B, K, E]."""
        return tf.matmul(self.address(queries), memory)

    def get_config(self) -> dict:
        return {**super().get_config(), "num_slots": self.num_slots}


def _write(states: States, inputs: tuple[tf.Tensor, ...]) -> States:
    (memory,), (share, erase, add) = states, inputs
    share = share[..., tf.newaxis]  # [B, K, 1]
    erase, add = erase[:, tf.newaxis], add[:, tf.newaxis]  # [B, 1, E]
    return (memory * (1 - share * erase) + share * add,)
