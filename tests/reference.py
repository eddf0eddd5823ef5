"""The slow oracle: each formula once more, in plain NumPy and plain loops.

Nothing here is fast, vectorised or imported from the packages under test. A formula is
written as its paper writes it, term by term, so that reading it is enough to trust it.
"""

import math

import numpy as np


def full_softmax_nll(scores: np.ndarray, positive: int) -> float:
    """Returns -log of the positive's share of exp(scores) over the whole corpus."""
    partition = sum(math.exp(score) for score in scores)
    return -math.log(math.exp(scores[positive]) / partition)


def corrected_in_batch_loss(
    queries: np.ndarray,
    candidates: np.ndarray,
    ids: list,
    log_q: np.ndarray,
    rewards: np.ndarray,
    temperature: float,
) -> float:
    """Returns eq. (4) of Yi et al. 2019, other copies of the positive left out."""
    total = 0.0
    for i in range(len(queries)):
        corrected = {}
        for j in range(len(candidates)):
            if j != i and ids[j] == ids[i]:
                continue
            score = sum(
                queries[i, d] * candidates[j, d] for d in range(len(queries[i]))
            )
            corrected[j] = score / temperature - log_q[j]
        partition = sum(math.exp(score) for score in corrected.values())
        total += -rewards[i] * math.log(math.exp(corrected[i]) / partition)
    return total / len(queries)


class GapEstimator:
    """Algorithms 2 and 3 of Yi et al. 2019 with the first hit measured as no gap.

    `buckets_of` maps an item to its bucket in each of the m arrays; the identity is a
    perfect hash.
    """

    def __init__(self, alpha, initial_gap, num_hashes=1, buckets_of=None):
        self.alpha = alpha
        self.step = 0
        self.buckets_of = buckets_of or (lambda item: [item] * num_hashes)
        self.last = [{} for _ in range(num_hashes)]
        self.gap = [{} for _ in range(num_hashes)]
        self.initial_gap = initial_gap

    def count(self, batch) -> None:
        self.step += 1
        for row, (last, gap) in enumerate(zip(self.last, self.gap, strict=True)):
            for bucket in {self.buckets_of(item)[row] for item in batch}:
                if bucket in last:
                    before = gap.get(bucket, self.initial_gap)
                    delta = self.step - last[bucket]
                    gap[bucket] = (1 - self.alpha) * before + self.alpha * delta
                last[bucket] = self.step

    def log_q(self, batch) -> np.ndarray:
        return np.array([-math.log(self._largest_gap(item)) for item in batch])

    def _largest_gap(self, item) -> float:
        buckets = self.buckets_of(item)
        return max(
            gap.get(bucket, self.initial_gap)
            for gap, bucket in zip(self.gap, buckets, strict=True)
        )


def fm_pairs(embeddings: np.ndarray) -> np.ndarray:
    """Returns sum_{i<j} <v_i, v_j> for each row of embeddings [B, F, K]."""
    out = np.zeros(len(embeddings))
    for row, fields in enumerate(embeddings):
        for i in range(len(fields)):
            for j in range(i + 1, len(fields)):
                out[row] += float(np.dot(fields[i], fields[j]))
    return out


def recency_ranks(ids: list[int]) -> list[int]:
    """Returns 0 for the newest (last) id, 1 for the one before, -1 for the 0s."""
    ranks = [-1] * len(ids)
    rank = 0
    for position in reversed(range(len(ids))):
        if ids[position] != 0:
            ranks[position] = rank
            rank += 1
    return ranks


def recency_weighted_mean(
    embeddings: np.ndarray, ids: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Returns sum_t w_t e_t / sum_t w_t, w_t = exp(scores[rank of t]), without pads."""
    out = np.zeros((len(ids), embeddings.shape[-1]))
    for row in range(len(ids)):
        total_weight = 0.0
        for position, rank in enumerate(recency_ranks(list(ids[row]))):
            if rank >= 0:
                weight = math.exp(scores[rank])
                out[row] += weight * embeddings[row, position]
                total_weight += weight
        if total_weight > 0:
            out[row] /= total_weight
    return out


def masked_mean(embeddings: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns the mean of the vectors whose id is not 0, or zeros if there is none."""
    out = np.zeros((len(ids), embeddings.shape[-1]))
    for row in range(len(ids)):
        kept = [embeddings[row, t] for t in range(len(ids[row])) if ids[row, t] != 0]
        if kept:
            out[row] = np.sum(kept, axis=0) / len(kept)
    return out


def deepfm_logits(
    vectors: np.ndarray,
    first_order: np.ndarray,
    bias: float,
    dense: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Returns bias + sum of first-order terms + FM pairs + DNN, all on the same V.

    Args:
        vectors: [B, F, K], V.
        first_order: [B, F], <w, x> field by field.
        bias: w0.
        dense: (kernel, bias) of each layer; ReLU after all but the last.
    """
    logits = fm_pairs(vectors)
    for row in range(len(vectors)):
        hidden = np.concatenate(list(vectors[row]))
        for layer, (kernel, layer_bias) in enumerate(dense):
            hidden = hidden @ kernel + layer_bias
            if layer < len(dense) - 1:
                hidden = np.maximum(hidden, 0.0)
        logits[row] += bias + sum(first_order[row]) + float(hidden[0])
    return logits


def top_k(
    queries: np.ndarray, items: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k largest inner products and their rows; -inf and -1 beyond N."""
    scores = np.full((len(queries), k), -np.inf)
    rows = np.full((len(queries), k), -1)
    for b, query in enumerate(queries):
        products = [float(np.dot(query, item)) for item in items]
        order = sorted(range(len(items)), key=lambda i: -products[i])[:k]
        scores[b, : len(order)] = [products[i] for i in order]
        rows[b, : len(order)] = order
    return scores, rows


def _splitmix64(x: int) -> int:
    """Returns one step of SplitMix64 (Steele et al. 2014) in Python's own integers."""
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def gumbel_noise(seed: int, item_key: int) -> float:
    """Returns the standard Gumbel variate of a (seed, item)."""
    bits = _splitmix64((_splitmix64(seed % 2**64) + item_key) % 2**64) >> 12
    uniform = (2 * bits + 1) / 2**53  # the middle of one of 2^52 equal intervals
    return -math.log(-math.log(uniform))


def plackett_luce_propensities(scaled_logits: list[float]) -> list[float]:
    """Returns each item's share of exp(logit) among itself and those below it."""
    out = []
    for position, logit in enumerate(scaled_logits):
        below = scaled_logits[position:]
        out.append(1.0 / sum(math.exp(other - logit) for other in below))
    return out


def softmax_slate(
    logits: list[float],
    is_candidate: list[bool],
    item_keys: list[int],
    seed: int,
    temperature: float,
) -> tuple[list[int], list[float]]:
    """Returns the candidates by perturbed logit, and the propensity of each."""
    columns = [c for c in range(len(logits)) if is_candidate[c]]
    perturbed = {
        c: logits[c] / temperature + gumbel_noise(seed, item_keys[c]) for c in columns
    }
    columns.sort(key=lambda c: -perturbed[c])
    scaled = [logits[c] / temperature for c in columns]
    return columns, plackett_luce_propensities(scaled)


def rank_of_positive(scores: list[float], positive: int, seen: set[int]) -> float:
    """Returns how many unseen items stand above the positive, ties counted half.

    A score that is not a number is below all others; an unknown positive is never found.
    """
    if positive < 0:
        return math.inf
    scores = [-math.inf if math.isnan(score) else score for score in scores]
    rank = 0.0
    for item, score in enumerate(scores):
        if item == positive or item in seen:
            continue
        if score > scores[positive]:
            rank += 1.0
        elif score == scores[positive]:
            rank += 0.5
    return rank


def cosine_of_users(users: list, items: list[int], num_items: int) -> np.ndarray:
    """Returns |U_i and U_j| / sqrt(|U_i| |U_j|) of the items' sets of users."""
    users_of = [set() for _ in range(num_items)]
    for user, item in zip(users, items, strict=True):
        if item >= 0:
            users_of[item].add(user)
    out = np.zeros([num_items, num_items])
    for i in range(num_items):
        for j in range(num_items):
            if i != j and users_of[i] and users_of[j]:
                together = len(users_of[i] & users_of[j])
                out[i, j] = together / math.sqrt(len(users_of[i]) * len(users_of[j]))
    return out
