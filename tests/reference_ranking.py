"""The slow oracle of the feature-based rankers: their papers' formulas in plain loops."""

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
