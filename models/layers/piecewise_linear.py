"""A number as weights of the knots beside it, so that a linear layer can bend."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def knot_weights(values: tf.Tensor, knots: Sequence[float]) -> tf.Tensor:
    """Returns how much of a number lies at each knot.

    weight_q(x) = 1 at knot q, falling linearly to 0 at the knots beside it

    Beyond the first and the last knot, all of a number lies there. The weights are >= 0,
    at most two are not 0, and they sum to 1, so weights @ table is the piecewise linear
    function with the value table[q] at knot q.

    Args:
        values: [...] float.
        knots: Q places, 2 or more, ascending.

    Returns:
        weights: [..., Q], same dtype.

    Raises:
        ValueError: if the knots are too few or do not ascend.
    """
    places = np.asarray(knots, np.float64)
    gaps = np.diff(places)
    if not len(gaps) or (gaps <= 0).any():
        raise ValueError(
            f"`knots` should be two or more, ascending. Received: knots={tuple(knots)}"
        )
    inside = tf.clip_by_value(values, places[0], places[-1])[..., tf.newaxis]
    # Beyond the ends no number is left, so the outer slopes there are never read.
    rising = (inside - (places - np.append(gaps[:1], gaps))) / np.append(gaps[:1], gaps)
    falling = (places + np.append(gaps, gaps[-1:]) - inside) / np.append(
        gaps, gaps[-1:]
    )
    return tf.nn.relu(tf.minimum(rising, falling))
