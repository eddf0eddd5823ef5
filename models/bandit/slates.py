"""Weights of a slate's places, by what the reward of a place may depend on.

Tandem logs the chance of an item at its place *given the items above it*. The ratio of two
such chances is the weight of a place only as long as the items above are what the target
policy would have shown too; so ratios multiply down the slate.

References:
    [1] McInerney et al. Counterfactual Evaluation of Slate Recommendations with Sequential
        Reward Interactions. KDD 2020. Section 4. (cascade)
    [2] Li et al. Offline Evaluation of Ranking Policies with Click Models. KDD 2018.
        Section 4. (independent)
"""

import enum

import numpy as np


class SlateError(ValueError):
    """A log whose slates cannot be put together."""


class SlateModel(enum.Enum):
    """What the reward of a place depends on, and what the logged chance is of."""

    # The item there alone; the logged chance is of the item at the place, whatever is
    # above it.
    INDEPENDENT = "independent"
    # The item and those above it; the logged chance is given those above.
    CASCADE = "cascade"
    # The whole slate; the logged chance is given those above.
    WHOLE = "whole"


def slate_weights(
    ratios: np.ndarray, slates: np.ndarray, positions: np.ndarray, model: SlateModel
) -> np.ndarray:
    """Returns [N] the weight of each place.

    independent:  w[j] = ratio[j]
    cascade:      w[j] = product of ratio[i] over the places i <= j of the slate
    whole:        w[j] = product of ratio[i] over all places i of the slate

    Args:
        ratios: [N] chance by the target over chance by the logging policy.
        slates: [N] which slate a row is a place of.
        positions: [N] int, the place, 0 at the top.
        model: what the rewards depend on.

    Raises:
        SlateError: if a slate has a place twice or, where ratios multiply, lacks one.
    """
    if model is SlateModel.INDEPENDENT:
        return ratios.astype(np.float64)
    _, slate = np.unique(slates, return_inverse=True)
    order = np.lexsort((positions, slate))
    starts = np.flatnonzero(np.diff(slate[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    expected = np.arange(len(order)) - np.repeat(starts, sizes)
    wrong = positions[order] != expected
    if wrong.any():
        row = order[int(np.flatnonzero(wrong)[0])]
        place = int(expected[np.flatnonzero(wrong)[0]])
        raise SlateError(
            f"slate {slates[row]} should have each place once, from 0 on. Received: "
            f"place {positions[row]} where {place} was expected; chances that are given "
            "the items above cannot be multiplied without them"
        )
    weights = np.zeros(len(ratios))
    product = np.ones(len(starts))
    for place in range(int(sizes.max(initial=0))):
        there = sizes > place
        rows = order[starts[there] + place]
        product[there] *= ratios[rows]
        weights[rows] = product[there]
    if model is SlateModel.WHOLE:
        return product[slate]
    return weights
