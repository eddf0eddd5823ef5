"""The rules of `models.policy.rules` and the refill under caps, in plain Python."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

Values = Sequence[
    tuple[int, Sequence[str]]
]  # of an item: (limit, its values) a feature


class OfflineRules:
    """Caps and diversity over the candidates of one request.

    Args:
        values: of each of C candidates.
        relevance: lambda of MMR; 1 where diversity is not asked for.
        vectors: [C, D].
    """

    def __init__(
        self, values: Sequence[Values], relevance: float, vectors: np.ndarray
    ) -> None:
        self._values = values
        self._used: Counter = Counter()
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        self._vectors = vectors / np.maximum(norms, 1e-12)
        self._weight = (1 - relevance) / relevance
        self._nearest = np.full(len(vectors), -1.0)

    @property
    def has_diversity(self) -> bool:
        """Whether logits change from place to place."""
        return self._weight > 0

    @property
    def penalty(self) -> np.ndarray:
        """By how much the logits [C] are lowered at the next place."""
        return self._weight * self._nearest

    def is_open(self, column: int) -> bool:
        """Whether the caps still allow a candidate."""
        return fits(self._values[column], self._used)

    def show(self, column: int) -> None:
        """Puts a candidate above what follows."""
        self._used.update(_names(self._values[column]))
        cosines = self._vectors @ self._vectors[column]
        self._nearest = np.maximum(self._nearest, cosines)

    def fitting(self, columns: Sequence[int]) -> list[int]:
        """Returns those of some candidates, in their order, that fit together."""
        taken = all_fitting([self._values[column] for column in columns], self._used)
        return [column for column, is_in in zip(columns, taken, strict=True) if is_in]


def fits(values: Values, used: Counter) -> bool:
    """Returns whether no value of an item has been used up."""
    return all(
        used[place, value] < limit
        for place, (limit, of_feature) in enumerate(values)
        for value in set(of_feature)
    )


def all_fitting(items: Sequence[Values], used: Counter) -> list[bool]:
    """Returns which items of an order fit, each with all those before it counted."""
    counts, found = Counter(used), []
    for values in items:
        found.append(fits(values, counts))
        counts.update(_names(values))
    return found


def with_enough_fitting(
    rows: Sequence[int], values: Sequence[Values], width: int, needed: int
) -> list[int]:
    """Returns the first `width` rows, with `needed` that fit together among them.

    Args:
        rows: of the catalogue, the nearest first.
        values: of every item of the catalogue.
        width: how many are ranked.
        needed: how many of them the caps must allow together.
    """
    taken = all_fitting([values[row] for row in rows], Counter())
    if sum(taken[:width]) >= needed:
        return list(rows[:width])
    first = [row for row, is_in in zip(rows, taken, strict=True) if is_in][:needed]
    return [*first, *(row for row in rows if row not in set(first))][:width]


def _names(values: Values) -> list[tuple[int, str]]:
    return [
        (place, value)
        for place, (_, of_feature) in enumerate(values)
        for value in set(of_feature)
    ]
