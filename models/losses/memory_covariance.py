"""Penalties on slots of a memory that say the same: what covaries is stored twice."""

import tensorflow as tf


def covariance_norm(memory: tf.Tensor) -> tf.Tensor:
    """Returns how much the slots of a memory covary, as the authors' code has it.

    C     = (M - mean M) (M - mean M)^T / H, of one memory M; the mean is of each slot
    norm  = sum over memories of ||C without its diagonal||_F

    Args:
        memory: [B, D, H] float.

    Returns:
        Scalar; the sum over the batch, not the mean.

    References:
        [1] Ren et al. Lifelong Sequential Modeling with Personalized Memorization for
            User Response Prediction. SIGIR 2019; `get_covreg` of the code beside it.
    """
    squares = _squares_off_diagonal(memory)
    # The root has no gradient at 0, where a memory is that nothing was written to.
    is_some = squares > 0
    roots = tf.sqrt(tf.where(is_some, squares, 1.0))
    return tf.reduce_sum(tf.where(is_some, roots, 0.0))


def covariance_square(memory: tf.Tensor) -> tf.Tensor:
    """Returns how much the slots of a memory covary, as the paper has it.

    square = sum over memories of 1/2 (||C||_F^2 - ||diag C||^2), C as above

    Args:
        memory: [B, D, H] float.

    Returns:
        Scalar; the sum over the batch, not the mean.

    References:
        [1] Ren et al., as above.
        [2] Cogswell et al. Reducing Overfitting in Deep Networks by Decorrelating
            Representations. ICLR 2016.
    """
    return 0.5 * tf.reduce_sum(_squares_off_diagonal(memory))


def _squares_off_diagonal(memory: tf.Tensor) -> tf.Tensor:
    """Returns [B]: the sum of the squares of C off its diagonal."""
    centred = memory - tf.reduce_mean(memory, axis=-1, keepdims=True)
    units = tf.cast(tf.shape(memory)[-1], memory.dtype)
    covariance = tf.matmul(centred, centred, transpose_b=True) / units  # [B, D, D]
    off = tf.linalg.set_diag(covariance, tf.zeros_like(covariance[..., 0]))
    return tf.reduce_sum(tf.square(off), axis=[1, 2])
