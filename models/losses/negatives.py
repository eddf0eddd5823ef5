"""Which candidates a row is contrasted with, beside those of its own batch.

Candidates drawn uniformly from the catalogue, with the exact probability of the mixture,
and the choice of the hardest. Pure functions; embedding the drawn items is the model's.
"""

import math

import tensorflow as tf

from models.losses.options import SamplingMeasure


def draw_uniform(
    num_items: int, num_drawn: int, seed: int, step: tf.Tensor
) -> tf.Tensor:
    """Draws catalogue rows, each of them equally likely, with replacement.

    The draw is a function of `seed` and `step` alone: every replica draws the same
    candidates at a step, and so does a run that is resumed.

    Args:
        num_items: number N of rows of the catalogue.
        num_drawn: number C' of draws.
        seed: of the run.
        step: [] integer, the global step, e.g. the frequency estimator's.

    Returns:
        rows: [C'] int64 in [0, N).
    """
    return tf.random.stateless_uniform(
        [num_drawn],
        seed=tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)]),
        maxval=num_items,
        dtype=tf.int64,
    )


def mixed_log_q(
    log_q: tf.Tensor, num_drawn: int, num_items: int, measure: SamplingMeasure
) -> tf.Tensor:
    """Returns log_q of candidates that are a batch's or drawn by `draw_uniform`.

    expected count: mixed = q + C' / N
    presence:       mixed = 1 - (1 - q) * (1 - 1 / N)^C'

    Where an item came from does not matter: each of its copies is one sample of the
    mixture, so the same q belongs to all of them. Counts of independent sources add up;
    to be absent from the mixture is to be absent from both. With the batch alone a tail
    item is a negative so seldom that its weight 1 / q is mostly noise; the draws give
    each item at least C' / N.

    Args:
        log_q: [C] float, of the batch alone, as `measure` says; -inf for an item that
            no batch holds.
        num_drawn: number C' of draws, >= 0.
        num_items: number N of items that are drawn from, each equally likely.
        measure: what `log_q` is the log of.

    Returns:
        mixed: [C], same dtype, finite if `num_drawn` > 0.

    References:
        [1] Yang et al. Mixed Negative Sampling for Learning Two-tower Neural Networks
            in Recommendations. WWW 2020 companion. Section 3.2, whose mixture of
            shares is the expected count by the number of candidates, a constant.
    """
    log_q = tf.convert_to_tensor(log_q)
    if num_drawn == 0:
        return log_q
    if measure is SamplingMeasure.EXPECTED_COUNT:
        return _log_add(log_q, math.log(num_drawn / num_items))
    if num_items == 1:
        return tf.zeros_like(log_q)
    # By expm1 and log1p, as 1 / N is lost beside 1 where the catalogue is large.
    log_missed = num_drawn * math.log1p(-1 / num_items)  # by all draws
    log_drawn = math.log(-math.expm1(log_missed))
    # q + (1 - q) * drawn = q * (1 - drawn) + drawn
    return _log_add(log_q + log_missed, log_drawn)


def keep_hardest(logits: tf.Tensor, num_hard: int) -> tf.Tensor:
    """Gives probability 0 to all but a row's highest-scoring negatives.

    hardest[b, c] = logits[b, c]  if c == b, or c is among the row's `num_hard` highest
                    -inf          otherwise

    Easy negatives add little but noise to a gradient. It is no estimate of the softmax
    over the catalogue any more, which the sampling correction aims at.

    Args:
        logits: [B, C] float, C >= B, corrected and masked; the positive of row b is
            column b and stays.
        num_hard: number of negatives that each row keeps, >= 1; of equal scores the
            first are kept.

    Returns:
        hardest: [B, C], same dtype as `logits`.

    Raises:
        ValueError: if `num_hard` is not positive.
    """
    if num_hard < 1:
        raise ValueError(f"`num_hard` should be >= 1. Received: num_hard={num_hard}")
    drop = tf.constant(float("-inf"), logits.dtype)
    num_rows = tf.shape(logits)[0]
    negatives = tf.linalg.set_diag(logits, tf.fill([num_rows], drop))
    num_kept = tf.minimum(num_hard, tf.shape(logits)[1])
    columns = tf.math.top_k(tf.stop_gradient(negatives), num_kept).indices  # [B, H]
    rows = tf.broadcast_to(tf.range(num_rows)[:, tf.newaxis], tf.shape(columns))
    is_kept = tf.tensor_scatter_nd_update(
        tf.zeros(tf.shape(logits), tf.bool),
        tf.stack([rows, columns], axis=-1),
        tf.ones(tf.shape(columns), tf.bool),
    )
    is_kept = tf.linalg.set_diag(is_kept, tf.ones([num_rows], tf.bool))
    return tf.where(is_kept, logits, drop)


def _log_add(log_a: tf.Tensor, log_b: float) -> tf.Tensor:
    """Returns log(a + b); `log_a` may be -inf."""
    both = tf.stack([log_a, tf.fill(tf.shape(log_a), tf.constant(log_b, log_a.dtype))])
    return tf.reduce_logsumexp(both, axis=0)
