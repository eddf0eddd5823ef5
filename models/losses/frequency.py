"""Streaming estimation of how often an item is in a training batch.

An item's probability of being in a batch is one over the number of steps between two
batches that hold it, so a moving average of that gap estimates it, in fixed memory and
without a vocabulary. The maths are pure functions over gathered values; the layer holds
the arrays. Counting over a finished log is deliberately absent: it does not follow a
distribution that changes.
"""

import tensorflow as tf


def next_gap(
    gap: tf.Tensor, last_step: tf.Tensor, step: tf.Tensor, alpha: float
) -> tf.Tensor:
    """Moves the average gap of buckets that are hit at `step`.

    next_gap = (1 - alpha) * gap + alpha * (step - last_step)   if hit before
               gap                                              at the first hit

    The first hit has no gap to measure: taking last_step as 0 there, a new item late in
    a long run would get the run's length as its gap and a probability near 0.

    Args:
        gap: [N] float, average number of steps between hits so far.
        last_step: [N] int64, the step of the latest hit; 0 means never hit.
        step: [] int64, the current step, counted from 1.
        alpha: learning rate in (0, 1].

    Returns:
        next_gap: [N], same dtype as `gap`.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Algorithm 2.
    """
    observed = tf.cast(step - last_step, gap.dtype)
    moved = (1.0 - alpha) * gap + alpha * observed
    return tf.where(last_step > 0, moved, gap)


def log_probability(gaps: tf.Tensor) -> tf.Tensor:
    """Returns the log of the chance of being in a batch, from m estimated gaps.

    log_q[b] = -log(max_i gaps[i, b])

    A collision makes a bucket look more frequent, never less, so the largest of the m
    gaps is the one least disturbed.

    Args:
        gaps: [m, B] float, > 0.

    Returns:
        log_q: [B] float, natural log, not clipped.

    References:
        [1] Yi et al., RecSys 2019. Algorithm 3.
    """
    return -tf.math.log(tf.reduce_max(gaps, axis=0))


def hash_buckets(item_ids: tf.Tensor, num_buckets: int, num_hashes: int) -> tf.Tensor:
    """Maps ids to one bucket in each of `num_hashes` independent arrays.

    Args:
        item_ids: [B] string or integer.
        num_buckets: number of buckets of one array.
        num_hashes: number of arrays, m.

    Returns:
        buckets: [m, B] int64; array i owns [i * num_buckets, (i + 1) * num_buckets), so
            that one flat variable holds all arrays.
    """
    if item_ids.dtype != tf.string:
        item_ids = tf.strings.as_string(item_ids)
    # A key of its own makes each row an independent function: two items that collide in
    # one row collide in another only by chance. The constants are part of a
    # checkpoint's meaning: changing them orphans its buckets.
    rows = [
        tf.strings.to_hash_bucket_strong(
            item_ids, num_buckets, key=[0x5DEECE66D + row, 0x2545F4914F6CDD1D - row]
        )
        + row * num_buckets
        for row in range(num_hashes)
    ]
    return tf.stack(rows)


@tf.keras.utils.register_keras_serializable("tandem")
class StreamingFrequencyEstimator(tf.keras.layers.Layer):
    """Estimates log_q of the items of a stream of batches.

    In training, a call is one global step: it first counts the batch, then reads. So
    the estimate an item is corrected with contains the gap that its own presence ended,
    as the average is defined at that step. Otherwise a call reads and changes nothing.

    A batch is a set: a bucket hit several times in a batch is hit once. Cost per call
    grows with the batch, not with `num_buckets`. Under a distribution strategy the
    first replica's batches are counted, and the estimate is of a replica's batch, which
    is also where a replica takes its negatives from.

    Args:
        num_buckets: size H of one array; the paper takes several times the items.
        num_hashes: number m of arrays; at equal m * H more are more exact.
        alpha: learning rate in (0, 1]; higher follows changes faster, with more noise.
        initial_gap: gap of a bucket before its second hit, in steps, >= 1.

    Not checked: that each call in training is one optimiser step. A batch counted twice
    has a gap of 1.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Algorithms 2 and 3.
    """

    def __init__(
        self,
        num_buckets: int,
        num_hashes: int = 1,
        alpha: float = 0.01,
        initial_gap: float = 100.0,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if num_buckets < 1:
            raise ValueError(
                f"`num_buckets` should be >= 1. Received: num_buckets={num_buckets}"
            )
        if num_hashes < 1:
            raise ValueError(
                f"`num_hashes` should be >= 1. Received: num_hashes={num_hashes}"
            )
        if not 0 < alpha <= 1:
            raise ValueError(f"`alpha` should be in (0, 1]. Received: alpha={alpha}")
        if initial_gap < 1:
            raise ValueError(
                "`initial_gap` should be >= 1 step. "
                f"Received: initial_gap={initial_gap}"
            )
        self.num_buckets = num_buckets
        self.num_hashes = num_hashes
        self.alpha = alpha
        self.initial_gap = initial_gap

        def state(name, shape, dtype, initial):
            return self.add_weight(
                name=name,
                shape=shape,
                dtype=dtype,
                initializer=tf.keras.initializers.Constant(initial),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

        # Steps are int64: float32 counts exactly only to 2^24.
        size = num_hashes * num_buckets
        self.step = state("step", (), tf.int64, 0)
        self.last_step = state("last_step", (size,), tf.int64, 0)  # A; 0: never hit
        self.gap = state("gap", (size,), tf.float32, initial_gap)  # B

    def call(self, item_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Counts the batch if `training`, then returns the items' log_q.

        Args:
            item_ids: [B] string or integer ids.
            training: whether this call is a training step.

        Returns:
            log_q: [B] float32, natural log of the chance to be in a batch, not clipped.
        """
        item_ids = tf.convert_to_tensor(item_ids)
        if item_ids.shape.rank != 1:
            raise ValueError(
                "`item_ids` should have rank 1. "
                f"Received: shape={item_ids.shape}; reshape it to [B]."
            )
        buckets = hash_buckets(item_ids, self.num_buckets, self.num_hashes)  # [m, B]
        if training:
            self._count(tf.reshape(buckets, [-1]))
        return log_probability(tf.gather(self.gap, buckets))

    def _count(self, buckets: tf.Tensor) -> None:
        self.step.assign_add(1)
        step = tf.identity(self.step)
        # Every value is gathered before any is written, so the copies of a bucket in
        # one batch compute, and write, the same value: the batch counts as a set.
        moved = next_gap(
            tf.gather(self.gap, buckets),
            tf.gather(self.last_step, buckets),
            step,
            self.alpha,
        )
        self.gap.scatter_update(tf.IndexedSlices(moved, buckets))
        self.last_step.scatter_update(
            tf.IndexedSlices(tf.fill(tf.shape(buckets), step), buckets)
        )

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "num_buckets": self.num_buckets,
            "num_hashes": self.num_hashes,
            "alpha": self.alpha,
            "initial_gap": self.initial_gap,
        }
