"""Point-in-time histories: the one rule for what a row may know of the past.

A history holds the user's positive events with a timestamp STRICTLY earlier than the
row's, the latest `length` of them, oldest first. Events that share a timestamp (the
lines of one basket) never see each other. Ingestion and serving call the same function,
so training and serving cannot disagree.
"""

import numpy as np

_PRIOR_EVENTS = 3.0


def history_spans(
    users: np.ndarray, timestamps: np.ndarray, positive: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each row's history lies among the positive rows.

    The history of row i is `items[positive][start[i]:end[i]]`.

    Args:
        users: [N] any comparable type; rows of one user are adjacent.
        timestamps: [N] int64, not falling within a user.
        positive: [N] bool, whether the row enters later histories.
        length: the most items a history holds, at least 1.

    Returns:
        start, end: [N] int64, with 0 <= end - start <= length.

    Raises:
        ValueError: if `length` < 1, or timestamps fall within a user.

    Not checked: that rows of one user are adjacent.
    """
    if length < 1:
        raise ValueError(f"`length` should be >= 1. Received: length={length}")
    num_rows = len(timestamps)
    if num_rows == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    same_user = users[1:] == users[:-1]
    if np.any(same_user & (timestamps[1:] < timestamps[:-1])):
        raise ValueError(
            "`timestamps` should not fall within a user; sort the rows by user and "
            "timestamp first."
        )
    same_moment = same_user & (timestamps[1:] == timestamps[:-1])
    num_before = np.cumsum(positive, dtype=np.int64) - positive  # positives above row i
    end = num_before[_first_of_run(same_moment)]
    start = np.maximum(num_before[_first_of_run(same_user)], end - length)
    return start, end


def mean_labels(
    users: np.ndarray,
    timestamps: np.ndarray,
    labels: np.ndarray,
    is_labelled: np.ndarray,
) -> np.ndarray:
    """Returns, for each row, the mean label of its user's strictly earlier events.

    mean[i] = (sum of labels + m / 2) / (number of labels + m),  m = 3

    A user without a past gets 1/2, and a single answer moves it only so far.

    Args:
        users: [N] any comparable type; rows of one user are adjacent.
        timestamps: [N] int64, not falling within a user.
        labels: [N] float; read where `is_labelled`.
        is_labelled: [N] bool, whether the row has a label.

    Returns:
        means: [N] float64.
    """
    start, end = history_spans(users, timestamps, is_labelled, max(1, len(users)))
    totals = np.concatenate([[0.0], np.cumsum(labels[is_labelled])])
    return smoothed_mean(totals[end] - totals[start], end - start)


def smoothed_mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns (total + m / 2) / (count + m), see `mean_labels`."""
    return (total + _PRIOR_EVENTS / 2) / (count + _PRIOR_EVENTS)


def history_at(
    timestamps: np.ndarray, positive: np.ndarray, at: int, length: int
) -> tuple[int, int]:
    """Returns the span of one user's history for a request made at time `at`.

    Args:
        timestamps: [N] int64 of one user's events, not falling.
        positive: [N] bool.
        at: ms since the epoch; events at or after it stay unseen.
        length: the most items a history holds.

    Returns:
        (start, end) among the positive events, as `history_spans`.
    """
    seen = int(np.searchsorted(timestamps, at, side="left"))
    start, end = history_spans(
        np.zeros(seen + 1, np.int8),
        np.append(timestamps[:seen], at),
        np.append(positive[:seen], False),
        length,
    )
    return int(start[-1]), int(end[-1])


def _first_of_run(continues: np.ndarray) -> np.ndarray:
    """Returns, for each of N rows, the first row of its run.

    Args:
        continues: [N - 1] bool, whether row i + 1 belongs to the run of row i.
    """
    rows = np.arange(len(continues) + 1)
    rows[1:][continues] = 0
    return np.maximum.accumulate(rows)
