"""What the labelled rows of each split come to: for the label and propensity checks."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from components.ingestion.summary import ImpressionFacts
from schemas.events import SPLITS


class PartialFacts(NamedTuple):
    """Facts of some rows, ready to be added to those of others."""

    rows: int
    sampled: int
    label_min: float
    label_max: float
    label_sum: float
    propensities: int
    propensity_min: float
    weight_sum: float  # of 1 / propensity
    weight_square_sum: float


def partial_facts(
    labels: np.ndarray, propensities: np.ndarray, sampled: int
) -> PartialFacts:
    """Returns the facts of some rows.

    Args:
        labels: [n] float64, of at least one row.
        propensities: [n] float64, NaN where a row has none.
        sampled: how many of them are drawn negatives.
    """
    known = propensities[~np.isnan(propensities)]
    weights = 1.0 / known
    return PartialFacts(
        len(labels),
        sampled,
        float(labels.min()),
        float(labels.max()),
        math.fsum(labels),
        len(known),
        float(known.min(initial=math.inf)),
        math.fsum(weights),
        math.fsum(weights**2),
    )


def gather_facts(
    parts: Iterable[tuple[str, PartialFacts]],
) -> Mapping[str, ImpressionFacts]:
    """Returns the facts of each split.

    Sums are rounded once, from all parts together, so that they do not depend on the
    order in which workers finish.

    Args:
        parts: (split, facts of some of its rows).
    """
    by_split: dict[str, list[PartialFacts]] = {split: [] for split in SPLITS}
    for split, facts in parts:
        by_split[split].append(facts)
    return {split: _total(facts) for split, facts in by_split.items()}


def _total(parts: list[PartialFacts]) -> ImpressionFacts:
    rows = sum(part.rows for part in parts)
    propensities = sum(part.propensities for part in parts)
    weights = math.fsum(part.weight_sum for part in parts)
    squares = math.fsum(part.weight_square_sum for part in parts)
    return ImpressionFacts(
        rows=rows,
        sampled=sum(part.sampled for part in parts),
        label_min=min((part.label_min for part in parts), default=0.0),
        label_max=max((part.label_max for part in parts), default=0.0),
        label_mean=math.fsum(part.label_sum for part in parts) / rows if rows else 0.0,
        propensities=propensities,
        propensity_min=(
            min(part.propensity_min for part in parts) if propensities else 0.0
        ),
        effective_sample_size=weights**2 / squares if propensities else 0.0,
    )
