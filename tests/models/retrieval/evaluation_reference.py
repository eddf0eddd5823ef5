"""Slow oracle of the figures of an evaluation: plain loops, one event at a time."""

import math


def best_items(scores: list[float], seen: set[int], k: int) -> list[int]:
    """Returns the k best unseen items, the first of equals first; -1 fills up."""
    allowed = [
        (-score, item)
        for item, score in enumerate(scores)
        if item not in seen and not math.isnan(score) and score != -math.inf
    ]
    found = [item for _, item in sorted(allowed)][:k]
    return found + [-1] * (min(k, len(scores)) - len(found))


def gini(counts: list[int]) -> float:
    """Returns half the mean difference of two items' counts, over their mean."""
    mean = sum(counts) / len(counts)
    differences = [abs(one - other) for one in counts for other in counts]
    if not mean:
        return 0.0
    return sum(differences) / len(differences) / (2 * mean)


def percentile(counts: list[int], item: int) -> float:
    """Returns the share of items less popular than `item`, ties and itself by half."""
    below = sum(count < counts[item] for count in counts)
    equal = sum(count == counts[item] for count in counts)
    return (below + equal / 2) / len(counts)


def label_of_history(num_earlier: int) -> str:
    if num_earlier == 0:
        return "0"
    for low, high in ((1, 4), (5, 19), (20, 49), (50, 199)):
        if low <= num_earlier <= high:
            return f"{low} to {high}"
    return ">= 200"


def label_of_age(age_days: float) -> str:
    if age_days < 1:
        return "< 1"
    for low, high in ((1, 7), (7, 30), (30, 90), (90, 365)):
        if low <= age_days < high:
            return f"{low} to {high}"
    return ">= 365"


def label_of_popularity(counts: list[int], item: int) -> str:
    """Returns the decile among the items that the train split holds."""
    if counts[item] == 0:
        return "not in train"
    trained = [count for count in counts if count]
    share = percentile(trained, trained.index(counts[item]))
    return str(min(10, 1 + math.floor(share * 10)))
