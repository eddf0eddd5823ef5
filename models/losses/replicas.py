"""The batch of all replicas, seen from each: rows gathered, gradients sent back.

With one replica, or outside a distribution strategy, everything here is the identity.
How a model is trained on several is the trainer's business.
"""

import tensorflow as tf


def gather_rows(*tensors: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the rows of all replicas, this replica's own first.

    Own rows first, because then row b's positive is column b on every replica; the
    others follow in the order of the replicas, from the next one round.

    A gradient towards a gathered row is summed over the replicas and returned to the
    one that owns the row. So where each replica's loss is its rows' share of the whole
    batch's, and the optimiser sums the replicas' gradients, as Keras's do, the sum is
    the gradient of the whole batch's loss.

    Args:
        *tensors: [B, ...] each, with one B, which may differ between replicas. Numbers:
            strings do not travel between accelerators, see `fingerprints`. Every
            replica calls this alike, never in a branch that some do not take.

    Returns:
        gathered: [sum of B, ...] each.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensors
    own_rows = tf.shape(tensors[0])[:1]
    before = context.replica_id_in_sync_group
    num_before = tf.reduce_sum(context.all_gather(own_rows, axis=0)[:before])
    return tuple(_gather(context, rows, num_before) for rows in tensors)


def count_rows(tensor: tf.Tensor) -> tf.Tensor:
    """Returns how many rows a tensor has on all replicas together, [] int32."""
    context = tf.distribute.get_replica_context()
    num_rows = tf.shape(tensor)[0]
    if context is None or context.num_replicas_in_sync == 1:
        return num_rows
    return context.all_reduce(tf.distribute.ReduceOp.SUM, num_rows)


def fingerprints(item_ids: tf.Tensor) -> tf.Tensor:
    """Maps ids to int64 numbers that stand for them on every replica.

    Args:
        item_ids: [B] string or integer.

    Returns:
        fingerprints: [B] int64, equal where the ids are; two strings of a catalogue of
            10M share one with a chance of about 1 in 200,000.
    """
    if item_ids.dtype != tf.string:
        return tf.cast(item_ids, tf.int64)
    return tf.strings.to_hash_bucket_fast(item_ids, tf.int64.max)


def _gather(context, own: tf.Tensor, num_before: tf.Tensor) -> tf.Tensor:
    @tf.custom_gradient
    def gather(own: tf.Tensor):
        num_own = tf.shape(own)[0]

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # Back to the replicas' common order before theirs are added up.
            upstream = tf.roll(upstream, num_before, axis=0)
            total = context.all_reduce(tf.distribute.ReduceOp.SUM, upstream)
            return total[num_before : num_before + num_own]

        gathered = context.all_gather(own, axis=0)
        return tf.roll(gathered, -num_before, axis=0), gradient

    return gather(own)
