"""Gradients of several micro-batches, made into that of one optimiser step."""

from collections.abc import Sequence

import tensorflow as tf

Gradient = tf.Tensor | tf.IndexedSlices | None


def mean_gradients(micro_batches: Sequence[Sequence[Gradient]]) -> list[Gradient]:
    """Returns the mean of the micro-batches' gradients, variable by variable.

    A micro-batch's negatives are its own, so each is a whole step of the frequency
    estimator, and the loss that is minimised is the mean of the micro-batches' losses.
    That is not the loss of the joined batch, whose rows have more negatives and whose
    items have other chances of being in it.

    Args:
        micro_batches: of each micro-batch, which all have as many rows, the gradient of
            each variable; None where a loss does not depend on a variable.

    Returns:
        mean: one gradient a variable. Sparse ones stay sparse: their slices are joined,
            so that an embedding's cost does not grow with its vocabulary.

    Raises:
        ValueError: if there is no micro-batch.
    """
    if not micro_batches:
        raise ValueError("`micro_batches` should hold one or more. Received: none.")
    return [
        _mean(gradients, len(micro_batches))
        for gradients in zip(*micro_batches, strict=True)
    ]


def _mean(gradients: Sequence[Gradient], number: int) -> Gradient:
    present = [gradient for gradient in gradients if gradient is not None]
    if not present:
        return None
    if not all(isinstance(gradient, tf.IndexedSlices) for gradient in present):
        return (
            tf.add_n([tf.convert_to_tensor(gradient) for gradient in present]) / number
        )
    return tf.IndexedSlices(
        tf.concat([gradient.values for gradient in present], axis=0) / number,
        tf.concat([gradient.indices for gradient in present], axis=0),
        present[0].dense_shape,
    )
