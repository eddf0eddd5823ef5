"""Slow oracle of a ranker's figures: pairs, users and bins one by one."""

import itertools
import math


def auc(labels, predictions, weights=None) -> float:
    """Returns the weighed share of (positive, negative) pairs in order, ties by half.

    A row is `label` of a positive one and 1 - `label` of a negative one.
    """
    rows = range(len(labels))
    weights = [1.0] * len(labels) if weights is None else weights
    labels = [float(label) for label in labels]
    positives = [(row, weights[row] * labels[row]) for row in rows]
    negatives = [(row, weights[row] * (1 - labels[row])) for row in rows]
    won = total = 0.0
    for (one, is_one), (other, is_other) in itertools.product(positives, negatives):
        pair = is_one * is_other
        total += pair
        if predictions[one] > predictions[other]:
            won += pair
        elif predictions[one] == predictions[other]:
            won += pair / 2
    return won / total if total else math.nan


def auc_of_groups(labels, predictions, groups, num_groups, weights=None) -> list[float]:
    """Returns the AUC of the rows of each group."""
    found = []
    for group in range(num_groups):
        rows = [row for row, of in enumerate(groups) if of == group]
        picked = [
            None if values is None else [values[row] for row in rows]
            for values in (labels, predictions, weights)
        ]
        found.append(auc(*picked))
    return found


def gauc(labels, predictions, users, weights=None) -> float:
    """Returns the mean AUC of users with both classes, weighed by their rows."""
    weights = [1.0] * len(labels) if weights is None else weights
    won = total = 0.0
    for user in sorted(set(users)):
        rows = [row for row, of in enumerate(users) if of == user]
        own = auc([labels[row] for row in rows], [predictions[row] for row in rows])
        if not math.isnan(own):
            impressions = sum(weights[row] for row in rows)
            won += impressions * own
            total += impressions
    return won / total if total else math.nan


def log_loss(labels, predictions, weights=None) -> float:
    """Returns the weighed mean of -(y log p + (1 - y) log(1 - p))."""
    weights = [1.0] * len(labels) if weights is None else weights
    losses = []
    for label, prediction in zip(labels, predictions, strict=True):
        prob = min(max(float(prediction), 1e-7), 1 - 1e-7)
        losses.append(-label * math.log(prob) - (1 - label) * math.log(1 - prob))
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
