"""The slow oracle of the feature-based rankers: their papers' formulas in plain loops."""

import itertools
import math

import numpy as np


def mlp_output(inputs: np.ndarray, dense: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Returns the one output of an MLP.

    Args:
        inputs: [D].
        dense: (kernel, bias) of each layer; ReLU after all but the last.
    """
    hidden = inputs
    for layer, (kernel, bias) in enumerate(dense):
        hidden = hidden @ kernel + bias
        if layer < len(dense) - 1:
            hidden = np.array([max(value, 0.0) for value in hidden])
    return float(hidden[0])


def dnn_logits(
    query: np.ndarray,
    events: list[np.ndarray],
    candidates: np.ndarray,
    dense: list[tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Returns the MLP of [query fields; sum of events; candidate fields], row by row.

    Args:
        query: [B, Fq, K].
        events: of each row, [events, E]; none is a sum of zeros.
        candidates: [B, Fc, K].
        dense: as of `mlp_output`; the last bias is the logit's.
    """
    logits = []
    for fields, of_row, candidate in zip(query, events, candidates, strict=True):
        pooled = np.zeros(of_row.shape[1])
        for event in of_row:
            pooled = pooled + event
        joined = np.concatenate([*fields, pooled, *candidate])
        logits.append(mlp_output(joined, dense))
    return np.array(logits)


def splitmix64_finalised(x: int) -> int:
    """Returns the finaliser of SplitMix64 (Steele et al. 2014) in Python's integers."""
    mask = 2**64 - 1
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def cross_bucket(ids: tuple[int, ...], num_buckets: int) -> int:
    """Returns the bucket of one combination of ids, its upper 32 bits scaled."""
    state = 0
    for id_ in ids:
        state = ((state + id_ + 1) * 0x9E3779B97F4A7C15) % 2**64
        state = splitmix64_finalised(state)
    return (state >> 32) * num_buckets // 2**32


def crosses_sum(crosses: list, weights: np.ndarray, num_buckets: int) -> float:
    """Returns a row's sum over crosses and combinations of value * weight[bucket].

    Args:
        crosses: of each cross, for each crossed feature, a list of (id, value).
        weights: [crosses * num_buckets].
        num_buckets: of a cross.
    """
    total = 0.0
    for number, features in enumerate(crosses):
        for combination in itertools.product(*features):
            ids = tuple(int(id_) for id_, _ in combination)
            value = math.prod(value for _, value in combination)
            if value:
                bucket = number * num_buckets + cross_bucket(ids, num_buckets)
                total += value * weights[bucket]
    return total


def svdpp_logit(
    user: int,
    item: int,
    history: list[int],
    p: np.ndarray,
    q: np.ndarray,
    y: np.ndarray,
    biases: tuple[float, np.ndarray, np.ndarray],
) -> float:
    """Returns mu + b_u + b_i + <q_i, p_u + |N|^-1/2 sum y_j>, Koren 2008, eq. (15).

    Args:
        user: row of p.
        item: row of q.
        history: item ids, 0 pads; N is their set without `item`.
        p: [users, K]; row 0 is not read.
        q: [items, K].
        y: [items, K].
        biases: mu, b_u [users] and b_i [items].
    """
    implicit = {other for other in history if other not in (0, item)}
    vector = np.array(p[user]) if user else np.zeros(p.shape[1])
    for other in implicit:
        vector = vector + y[other] / math.sqrt(len(implicit))
    mean, of_users, of_items = biases
    logit = mean + (of_users[user] if user else 0.0)
    if item:
        logit += of_items[item] + float(np.dot(q[item], vector))
    return logit
