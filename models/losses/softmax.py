"""The sampled softmax over a batch's candidates, as pure functions.

The steps of one loss: score, remove the sampling bias, mask candidates that are not
negatives, take the cross entropy. Each is a function of its own. Estimating how often
a candidate is sampled is `frequency.py`'s business, choosing candidates that of
`negatives.py`.
"""

import functools

import tensorflow as tf

from models.losses.negatives import keep_hardest


def logq_corrected(
    logits: tf.Tensor, log_q: tf.Tensor, positive_log_q: tf.Tensor | None = None
) -> tf.Tensor:
    """Removes the sampling bias of in-batch negatives from the scores.

    corrected[b, c] = logits[b, c] - log_q[c]
    corrected[b, b] = logits[b, b] - positive_log_q[b]   where that is given

    A popular item is drawn as a negative more often; subtracting log_q makes the batch
    softmax an estimate of the softmax over the whole corpus. The positive is a sample
    like the others, so its own column is corrected too.

    Args:
        logits: [B, C] float, already divided by the temperature.
        log_q: [C] float, natural log of the chance that candidate c is in the batch,
            or of how often it is. Finite.
        positive_log_q: [B] float, the same of row b's own candidate, where that is kept
            by another rule than its negatives.

    Returns:
        corrected: [B, C], same dtype as `logits`. No gradient reaches log_q: it is
            estimated, not learnt.

    Raises:
        ValueError: if `log_q` or `positive_log_q` is not of rank 1.

    Not checked: that `log_q` belongs to the batches this loss is trained on.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Section 3, before eq. (4).
    """
    _check_rank("log_q", log_q, 1)
    if positive_log_q is not None:
        _check_rank("positive_log_q", positive_log_q, 1)

    @tf.custom_gradient
    def less(logits: tf.Tensor):
        corrected = logits - tf.cast(log_q, logits.dtype)[tf.newaxis, :]
        if positive_log_q is not None:
            own = tf.linalg.diag_part(logits) - tf.cast(positive_log_q, logits.dtype)
            corrected = tf.linalg.set_diag(corrected, own)
        # What is subtracted is constant: taking the diagonal out and putting it back
        # would cost the gradient four passes over B * C numbers, and change none.
        return corrected, lambda upstream: upstream

    return less(tf.convert_to_tensor(logits))


def mask_accidental_hits(logits: tf.Tensor, candidate_ids: tf.Tensor) -> tf.Tensor:
    """Gives probability 0 to the other copies of a row's own positive.

    masked[b, c] = -inf          if c != b and candidate_ids[c] == candidate_ids[b]
                   logits[b, c]  otherwise

    An item that occurs twice in a batch would otherwise be pushed away from a query as
    a negative while it is pulled towards it as the positive.

    Args:
        logits: [B, C] float, C >= B; the positive of row b is column b.
        candidate_ids: [C] of any type that compares for equality.

    Returns:
        masked: [B, C], same dtype as `logits`. Use it through a log-sum-exp; a product
            with a one-hot 0 would turn the -inf into NaN.

    Raises:
        ValueError: if `candidate_ids` is not of rank 1.
    """
    is_hit = _is_same_item(candidate_ids, tf.shape(logits)[0])
    return _drop_negatives(logits, is_hit)


def mask_known_positives(
    logits: tf.Tensor, candidate_ids: tf.Tensor, known_ids: tf.Tensor
) -> tf.Tensor:
    """Gives probability 0 to candidates that a row's user is known to like already.

    masked[b, c] = -inf          if c != b and candidate_ids[c] in known_ids[b]
                   logits[b, c]  otherwise

    Where items already met are not recommended again, ranking them low is nothing to
    learn, and as negatives they teach the towers to dislike what the user likes.

    Args:
        logits: [B, C] float, C >= B; the positive of row b is column b and stays.
        candidate_ids: [C] integer, > 0.
        known_ids: [B, T] integer, 0 pads.

    Returns:
        masked: [B, C], same dtype as `logits`.
    """
    return _drop_negatives(logits, is_known_positive(candidate_ids, known_ids))


def _is_same_item(candidate_ids: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
    """Returns [B, C] bool, whether candidate c is the item of row b."""
    _check_rank("candidate_ids", candidate_ids, 1)
    # A B * C grid of comparisons: small integers take a thirtieth of strings' time.
    _, ids = tf.unique(candidate_ids)  # [C] int32
    return tf.equal(ids[:num_rows, tf.newaxis], ids[tf.newaxis, :])


def is_known_positive(candidate_ids: tf.Tensor, known_ids: tf.Tensor) -> tf.Tensor:
    """Returns [B, C] bool, whether candidate c is among row b's `known_ids`.

    Args:
        candidate_ids: [C] integer, > 0.
        known_ids: [B, T] integer, 0 pads.
    """
    num_rows, num_candidates = tf.shape(known_ids)[0], tf.shape(candidate_ids)[0]
    # Number the ids by first appearance: candidates come first, so the numbers below
    # `num_distinct` are theirs, and a table of those replaces B * T * C comparisons.
    both = tf.concat([candidate_ids, tf.reshape(known_ids, [-1])], axis=0)
    _, numbers = tf.unique(both)  # [C + B * T] int32
    candidates, known = tf.split(numbers, [num_candidates, tf.size(known_ids)])
    num_distinct = tf.maximum(tf.reduce_max(candidates), -1) + 1  # 0 without any
    # A row of the table is an item's: copies of an item then take one copy of a row
    # each, where the columns of a table by users are copied byte by byte.
    rows = tf.repeat(tf.range(num_rows), tf.shape(known_ids)[1])
    place = known * num_rows + rows  # [B * T]
    place = tf.boolean_mask(place, known < num_distinct)
    table = tf.tensor_scatter_nd_update(
        tf.zeros([num_distinct * num_rows], tf.bool),
        place[:, tf.newaxis],
        tf.ones(tf.shape(place), tf.bool),
    )
    is_known = tf.reshape(table, [num_distinct, num_rows])
    return tf.transpose(tf.gather(is_known, candidates))


def _drop_negatives(logits: tf.Tensor, is_dropped: tf.Tensor) -> tf.Tensor:
    """Gives probability 0 to candidates, never to a row's own; both [B, C]."""
    own_stays = tf.zeros(tf.shape(logits)[:1], tf.bool)
    is_dropped = tf.linalg.set_diag(is_dropped, own_stays)

    @tf.custom_gradient
    def drop(logits: tf.Tensor):
        # What comes back to a logit of -inf is its probability, 0: no pass to clear it.
        masked = tf.where(is_dropped, tf.constant(float("-inf"), logits.dtype), logits)
        return masked, lambda upstream: upstream

    return drop(logits)


def negative_log_likelihood(logits: tf.Tensor) -> tf.Tensor:
    """Returns -log softmax(logits)[b, b] for each row.

    nll[b] = logsumexp_c(logits[b, c]) - logits[b, b]

    Args:
        logits: [B, C] float, C >= B; -inf drops a candidate, never on the diagonal.

    Returns:
        nll: [B], same dtype, finite and >= 0.
    """
    return _cross_entropy(logits)


@tf.custom_gradient
def _cross_entropy(logits: tf.Tensor):
    # By hand the gradient, softmax - one-hot, takes half as many passes over B * C
    # numbers: the softmax is kept, and nothing is added to a diagonal matrix.
    probability = tf.nn.softmax(logits)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        scaled = upstream[:, tf.newaxis] * probability
        own = tf.linalg.diag_part(scaled) - upstream
        return tf.linalg.set_diag(scaled, own)

    # The largest probability is at least 1 / C, so its log is exact.
    log_largest = tf.math.log(tf.reduce_max(probability, axis=1))
    log_total = tf.reduce_max(logits, axis=1) - log_largest
    return log_total - tf.linalg.diag_part(logits), gradient


def refined_negative_log_likelihood(logits: tf.Tensor) -> tf.Tensor:
    """Returns each row's loss with the positive out of the sampled partition.

    rest[b] = logsumexp_{c != b}(logits[b, c])
    nll[b]  = stop_gradient(1 - P[b]) * (rest[b] - logits[b, b])
    P[b]    = exp(logits[b, b]) / (exp(logits[b, b]) + exp(rest[b]))

    The positive is in its row for certain, not by chance, so it is not corrected; the
    sampled negatives estimate the rest of the partition. The weight, the estimated
    chance that the row is misclassified, makes the gradient that of the full softmax
    where all items are negatives. The value is no log-likelihood and may be negative.

    Args:
        logits: [B, C] float, C >= B, the diagonal not corrected; -inf drops a
            candidate. The negatives should be corrected by their expected count: their
            sum stands beside exp(positive), so here a constant factor of q counts.

    Returns:
        nll: [B], same dtype, finite; 0 for a row without negatives.

    References:
        [1] Khrylchenko et al. Correcting the LogQ Correction. RecSys 2025.
            arXiv:2507.09331. In the form that follows from the full softmax's gradient.
    """
    drop = tf.constant(float("-inf"), logits.dtype)
    negatives = tf.linalg.set_diag(logits, tf.fill(tf.shape(logits)[:1], drop))
    has_negatives = tf.reduce_any(negatives > drop, axis=1)
    # A sum over nothing would be -inf, and its gradient NaN.
    negatives = tf.where(has_negatives[:, tf.newaxis], negatives, 0.0)
    excess = tf.reduce_logsumexp(negatives, axis=1) - tf.linalg.diag_part(logits)
    nll = tf.stop_gradient(tf.sigmoid(excess)) * excess
    return tf.where(has_negatives, nll, 0.0)


def in_batch_softmax_loss(
    queries: tf.Tensor,
    candidates: tf.Tensor,
    candidate_ids: tf.Tensor | None = None,
    log_q: tf.Tensor | None = None,
    rewards: tf.Tensor | None = None,
    temperature: tf.Tensor | float = 1.0,
    known_positives: tuple[tf.Tensor, tf.Tensor] | None = None,
    *,
    positive_log_q: tf.Tensor | None = None,
    refined: bool = False,
    num_hard_negatives: int | None = None,
    num_rows: tf.Tensor | int | None = None,
) -> tf.Tensor:
    """Returns the reward-weighted, bias-corrected softmax loss of a batch.

    logits[b, c] = <queries[b], candidates[c]> / temperature - log_q[c]
    loss         = 1/B sum_b rewards[b] * (logsumexp_c logits[b, c] - logits[b, b])

    where c runs over the candidates that are not another copy of row b's positive, nor
    another known positive of its user.

    Masking the copies decides what log_q should be. Other items keep all their copies,
    so what corrects them is their expected count; a row's own item is left with one copy
    however often it occurs, so what corrects that is its presence, as `positive_log_q`.
    Its expected count there would shrink a popular positive's part in the partition
    below what is due, and pull it up without end. With the presence for both, as in the
    paper, popular items are corrected too little as negatives.

    Args:
        queries: [B, K] float, of unit length.
        candidates: [C, K] float, of unit length, C >= B; row b is query b's positive.
        candidate_ids: [C] ids by which duplicates are found; None masks nothing.
        log_q: [C] float, see `logq_corrected`; None is the plain in-batch softmax.
        rewards: [B] float, r_b >= 0; None weighs every row 1.
        temperature: > 0, a number or a learnt scalar. Serving ranks by the inner product
            alone, which the temperature and the correction do not enter.
        known_positives: ([C] candidate ids, [B, T] each user's known positives), see
            `mask_known_positives`; None masks none of them.
        positive_log_q: [B] float, log_q of each row's own column; None takes `log_q`.
        refined: takes `refined_negative_log_likelihood`, and leaves a row's own column
            uncorrected.
        num_hard_negatives: how many negatives a row keeps, see `keep_hardest`; None
            keeps all.
        num_rows: what the sum over the rows is divided by; None is B. With replicas it
            is the rows of all of them: the sum of their losses is then the loss of
            the whole batch, see `replicas.gather_rows`.

    Returns:
        loss: scalar, same dtype as `queries`. The mean is over B, not over the sum of
            the rewards, as in the paper: a row of reward 0 still counts as a row.

    Raises:
        ValueError: if `temperature` is a number and not positive, or an argument has a
            wrong rank.

    Not checked: that the vectors have unit length. The towers normalise them, so that
    training and the index score alike; normalising here would hide a tower that does
    not.

    References:
        [1] Yi et al. Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
            Recommendations. RecSys 2019. Eq. (4).
    """
    if isinstance(temperature, int | float) and temperature <= 0:
        raise ValueError(
            f"`temperature` should be > 0. Received: temperature={temperature}"
        )
    _check_rank("queries", queries, 2)
    _check_rank("candidates", candidates, 2)
    logits = tf.matmul(queries / temperature, candidates, transpose_b=True)  # [B, C]
    if log_q is not None:
        if refined:
            positive_log_q = tf.zeros(tf.shape(logits)[:1], logits.dtype)
        logits = logq_corrected(logits, log_q, positive_log_q)
    dropped = []
    if candidate_ids is not None:
        dropped.append(_is_same_item(candidate_ids, tf.shape(logits)[0]))
    if known_positives is not None:
        dropped.append(is_known_positive(*known_positives))
    if dropped:  # at once, as each mask is a pass over the logits and their gradient
        logits = _drop_negatives(logits, functools.reduce(tf.logical_or, dropped))
    if num_hard_negatives is not None:
        logits = keep_hardest(logits, num_hard_negatives)
    row_loss = refined_negative_log_likelihood if refined else negative_log_likelihood
    nll = row_loss(logits)
    if rewards is not None:
        _check_rank("rewards", rewards, 1)
        nll = tf.cast(rewards, nll.dtype) * nll
    if num_rows is None:
        return tf.reduce_mean(nll)
    return tf.reduce_sum(nll) / tf.cast(num_rows, nll.dtype)


def _check_rank(name: str, tensor: tf.Tensor, rank: int) -> None:
    # A [B, 1] here would broadcast over the wrong axis and train without an error.
    shape = tf.convert_to_tensor(tensor).shape
    if shape.rank is not None and shape.rank != rank:
        raise ValueError(
            f"`{name}` should have rank {rank}. Received: shape={shape}; "
            "squeeze or reshape it."
        )
