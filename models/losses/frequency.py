"""Streaming estimation of how often an item is in a training batch.

An item's probability of being in a batch is one over the number of steps between two
batches that hold it, so a moving average of that gap estimates it, in fixed memory and
without a vocabulary. A second average, of how often those batches hold it, turns the
probability into an expected count. The maths are pure functions over gathered values;
the layer holds the arrays. Counting over a finished log is deliberately absent: it does
not follow a distribution that changes.
"""

import tensorflow as tf

from models.losses.options import SamplingMeasure
from models.losses.replicas import gather_rows


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


def next_count(
    count: tf.Tensor, last_step: tf.Tensor, occurrences: tf.Tensor, alpha: float
) -> tf.Tensor:
    """Moves the average number of occurrences in the batches that hit a bucket.

    next_count = (1 - alpha) * count + alpha * occurrences   if hit before
                 occurrences                                 at the first hit

    Unlike a gap, a number of occurrences is seen at the first hit already.

    Args:
        count: [N] float, average number of occurrences so far.
        last_step: [N] int64, the step of the latest hit; 0 means never hit.
        occurrences: [N], how often the current batch holds the bucket, >= 1.
        alpha: learning rate in (0, 1].

    Returns:
        next_count: [N], same dtype as `count`.
    """
    observed = tf.cast(occurrences, count.dtype)
    return tf.where(last_step > 0, (1.0 - alpha) * count + alpha * observed, observed)


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


def log_expected_count(gaps: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Returns the log of the mean number of occurrences in a batch.

    log_q[b] = log(min_i counts[i, b] / gaps[i, b])

    A batch holds the item with probability 1 / gap, and then `counts` times on average.
    The counts of items that share a bucket add up, so the smallest of the m ratios is
    the one least disturbed.

    Args:
        gaps: [m, B] float, > 0.
        counts: [m, B] float, > 0.

    Returns:
        log_q: [B] float, natural log, not clipped; above 0 for an item that is in a
            batch more than once on average.
    """
    return tf.reduce_min(tf.math.log(counts) - tf.math.log(gaps), axis=0)


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

    A batch is a set: a bucket hit several times in a batch is hit once, and its number
    of occurrences is averaged apart. Cost per call grows with the batch, not with
    `num_buckets`. A batch without rows is no step.

    The batch that is counted should be the one that supplies the negatives:

    * Under a distribution strategy that is the batch of all replicas together, whose
      rows `gather_rows` gives each of them. One call by every replica is one step.
    * Where gradients are accumulated it is the micro-batch: each is one call and one
      step, however many of them make up an optimiser step.

    Args:
        num_buckets: size H of one array; the paper takes several times the items.
        num_hashes: number m of arrays; at equal m * H more are more exact.
        alpha: learning rate in (0, 1]; higher follows changes faster, with more noise.
        initial_gap: gap of a bucket before its second hit, in steps, >= 1.
        measure: what a call returns the log of; both are kept, so a checkpoint fits
            either.

    Not checked: that each call in training is of a new batch. A batch counted twice
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
        measure: SamplingMeasure | str = SamplingMeasure.PRESENCE,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        _check_arguments(num_buckets, num_hashes, alpha, initial_gap)
        self.num_buckets = num_buckets
        self.num_hashes = num_hashes
        self.alpha = alpha
        self.initial_gap = initial_gap
        self.measure = SamplingMeasure(measure)

        def state(name, shape, dtype, initial):
            # Every replica computes the same values, from the gathered batch.
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
        self.count = state("count", (size,), tf.float32, 1.0)

    def call(self, item_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Counts the batch if `training`, then returns the items' log_q.

        Args:
            item_ids: [B] string or integer ids; this replica's rows.
            training: whether this call is a training step.

        Returns:
            log_q: [B] float32, natural log of what `measure` says, not clipped.
        """
        buckets = self._buckets(item_ids)
        if training:
            self._count(buckets)
        return self._read(buckets, self.measure)

    def log_presence(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Returns [B], the log of the chance of being in a batch; counts nothing.

        A row's own item is corrected by it, whatever the measure: see
        `in_batch_softmax_loss`.
        """
        return self._read(self._buckets(item_ids), SamplingMeasure.PRESENCE)

    def log_q_of_drawn(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Returns [C] log_q of items that are no part of the batch; counts nothing.

        -inf where the item was never counted: no batch has supplied it, and one over
        `initial_gap` would be a guess. `mixed_log_q` makes it finite.
        """
        buckets = self._buckets(item_ids)
        is_seen = tf.reduce_all(tf.gather(self.last_step, buckets) > 0, axis=0)
        return tf.where(is_seen, self._read(buckets, self.measure), float("-inf"))

    def _buckets(self, item_ids: tf.Tensor) -> tf.Tensor:
        item_ids = tf.convert_to_tensor(item_ids)
        if item_ids.shape.rank != 1:
            raise ValueError(
                "`item_ids` should have rank 1. "
                f"Received: shape={item_ids.shape}; reshape it to [B]."
            )
        return hash_buckets(item_ids, self.num_buckets, self.num_hashes)  # [m, B]

    def _read(self, buckets: tf.Tensor, measure: SamplingMeasure) -> tf.Tensor:
        gaps = tf.gather(self.gap, buckets)
        if measure is SamplingMeasure.PRESENCE:
            return log_probability(gaps)
        return log_expected_count(gaps, tf.gather(self.count, buckets))

    def _count(self, buckets: tf.Tensor) -> None:
        (rows,) = gather_rows(tf.transpose(buckets))  # [B of all replicas, m]
        buckets, _, occurrences = tf.unique_with_counts(tf.reshape(rows, [-1]))
        self._hit(buckets, occurrences)

    def _hit(self, buckets: tf.Tensor, occurrences: tf.Tensor) -> None:
        # A last batch may have fewer rows than micro-batches or replicas.
        self.step.assign_add(tf.cast(tf.size(buckets) > 0, tf.int64))
        step = tf.identity(self.step)
        last_step = tf.gather(self.last_step, buckets)
        gap = next_gap(tf.gather(self.gap, buckets), last_step, step, self.alpha)
        count = next_count(
            tf.gather(self.count, buckets), last_step, occurrences, self.alpha
        )
        self.gap.scatter_update(tf.IndexedSlices(gap, buckets))
        self.count.scatter_update(tf.IndexedSlices(count, buckets))
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
            "measure": self.measure.value,
        }


def _check_arguments(
    num_buckets: int, num_hashes: int, alpha: float, initial_gap: float
) -> None:
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
            f"`initial_gap` should be >= 1 step. Received: initial_gap={initial_gap}"
        )
