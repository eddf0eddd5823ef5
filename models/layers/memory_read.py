"""What a target reads of a memory: attention over its slots, in hops."""

from collections.abc import Sequence

import tensorflow as tf

from models.layers.mlp import MLP


@tf.keras.utils.register_keras_serializable("tandem")
class MemoryRead(tf.keras.layers.Layer):
    """Attention of targets over the slots of a memory.

    q_0     = W v + b
    w[k, j] = softmax_j E([q_k, m_j, q_k - m_j, q_k * m_j])
    q_k+1   = H q_k + sum_j w[k, j] m_j

    E is a network of ReLU layers that ends in one number, the same in every hop, as is
    H. A slot that no event has reached yet is zeros and takes part: how much the target
    turns to it says that the history is short.

    Args:
        units: length H of a slot.
        hidden: units of E's ReLU layers.
        hops: how often the memory is read, >= 1.

    References:
        [1] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019.
        [2] Sukhbaatar et al. End-To-End Memory Networks. NeurIPS 2015. Section 2.2.
    """

    def __init__(
        self, units: int, hidden: Sequence[int] = (80, 40), hops: int = 3, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("units", units), ("hops", hops)):
            if value < 1:
                raise ValueError(f"`{name}` should be >= 1. Received: {name}={value}")
        self.units = units
        self.hidden = tuple(hidden)
        self.hops = hops
        self.query = tf.keras.layers.Dense(units, name="query")
        self.mlp = MLP(self.hidden, name="mlp")
        # A bias would add the same to the energies of all slots.
        self.energy = tf.keras.layers.Dense(1, use_bias=False, name="energy")
        self.hop = tf.keras.layers.Dense(units, use_bias=False, name="hop")

    def call(
        self, memory: tf.Tensor, targets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Reads a memory for each of its targets.

        Args:
            memory: [B, D, H].
            targets: [B, C, V].

        Returns:
            read: [B, C, H], q after the last hop.
            weights: [B, C, hops, D], of the slots; 1 in total.
        """
        query = self.query(targets)
        all_weights = []
        for _ in range(self.hops):
            weights = self._weights(memory, query)
            query = self.hop(query) + tf.matmul(weights, memory)
            all_weights.append(weights)
        return query, tf.stack(all_weights, axis=2)

    def _weights(self, memory: tf.Tensor, query: tf.Tensor) -> tf.Tensor:
        slots = memory[:, tf.newaxis]  # [B, 1, D, H]
        asked = query[:, :, tf.newaxis]  # [B, C, 1, H]
        difference, product = asked - slots, asked * slots
        inputs = tf.concat(
            [
                tf.broadcast_to(asked, tf.shape(product)),
                tf.broadcast_to(slots, tf.shape(product)),
                difference,
                product,
            ],
            axis=-1,
        )
        return tf.nn.softmax(tf.squeeze(self.energy(self.mlp(inputs)), axis=-1))

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "units": self.units,
            "hidden": self.hidden,
            "hops": self.hops,
        }
