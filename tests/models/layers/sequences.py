"""A few padded histories, and what every layer over them promises."""

import numpy as np
import tensorflow as tf

# Padding on the left, in between, everywhere and nowhere.
IDS = np.array([[0, 0, 7, 3, 9], [4, 4, 0, 5, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 5]])
IS_EVENT = IDS != 0
DIM = 3


def vectors(*leading: int, seed: int = 0) -> np.ndarray:
    """Returns float32 [*leading, DIM]; a vector stands at padding too."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*(leading or IDS.shape), DIM)).astype(np.float32)


def events_of(row: int) -> np.ndarray:
    """Returns the events [N, DIM] of a row of `vectors()`, without padding."""
    return vectors()[row][IS_EVENT[row]].astype(float)


def randomised(layer, *inputs):
    """Builds a layer by a call and gives every weight a value that shows."""
    layer(*inputs)
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(scale=0.7, size=weight.shape))
    return layer


def check_padding_is_irrelevant(read):
    """`read(vectors [1, T, DIM], is_event [1, T])` wherever the padding stands."""
    events, noise = vectors(1, 3, seed=2), vectors(1, 6, seed=3)
    answers = []
    for columns in ([0, 1, 2], [3, 4, 5], [0, 2, 5]):
        padded, is_event = noise.copy(), np.zeros((1, 6), bool)
        padded[:, columns], is_event[:, columns] = events, True
        answers.append(read(tf.constant(padded), tf.constant(is_event)))
    answers.append(read(tf.constant(events), tf.constant(np.ones((1, 3), bool))))
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], rtol=1e-5, atol=1e-6)


def check_gradients(layer, call, *watched):
    """Gradients of `call()` are finite, and reach every weight and watched variable."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(call() ** 2)
    sources = [*layer.trainable_weights, *watched]
    gradients = tape.gradient(loss, sources)
    for source, gradient in zip(sources, gradients, strict=True):
        values = tf.convert_to_tensor(gradient)
        assert np.isfinite(values).all(), source.name
        assert np.any(values), source.name
    return gradients


def check_graph_equals_eager(call, *arrays):
    """Under tf.function with unknown leading axes, and on histories of length 0."""
    specs = [tf.TensorSpec([None, None, *a.shape[2:]], a.dtype) for a in arrays]
    graph = tf.function(call, input_signature=specs)
    tensors = [tf.constant(array) for array in arrays]
    np.testing.assert_allclose(graph(*tensors), call(*tensors), rtol=1e-5, atol=1e-6)
