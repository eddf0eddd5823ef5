"""The second-order interaction of factorisation machines."""

import tensorflow as tf


def fm_interaction(embeddings: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the inner products of all pairs of fields.

    interaction = sum_{i<j} <v_i, v_j> = 1/2 sum_k ((sum_i v_ik)^2 - sum_i v_ik^2)

    The right-hand side costs F * K instead of F^2 * K.

    Args:
        embeddings: [..., F, K] float; a field that is missing is a zero vector.

    Returns:
        interaction: [...], same dtype.

    References:
        [1] Rendle. Factorization Machines. ICDM 2010. Lemma 3.1.
    """
    square_of_sum = tf.square(tf.reduce_sum(embeddings, axis=-2))  # [..., K]
    sum_of_squares = tf.reduce_sum(tf.square(embeddings), axis=-2)  # [..., K]
    return 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=-1)
