"""Point-in-time histories: the one rule for what a row may know of the past.

A history holds the user's positive events with a timestamp STRICTLY earlier than the
row's, the latest `length` of them, oldest first. Events that share a timestamp (the
lines of one basket) never see each other. Ingestion and serving call the same function,
so training and serving cannot disagree.
"""

import numpy as np

from schemas.runs import first_of_run, same_user_as_above

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
    same_user = same_user_as_above(users, timestamps)
    same_moment = same_user & (timestamps[1:] == timestamps[:-1])
    num_before = np.cumsum(positive, dtype=np.int64) - positive  # positives above row i
    end = num_before[first_of_run(same_moment)]
    start = np.maximum(num_before[first_of_run(same_user)], end - length)
    return start, end


def mean_labels(
    users: np.ndarray,
    timestamps: np.ndarray,
    labels: np.ndarray,
    is_labelled: np.ndarray,
    known_at: np.ndarray,
) -> np.ndarray:
    """Returns, for each row, the mean label that was known of its user by then.

    mean[i] = (sum of labels + m / 2) / (number of labels + m),  m = 3

    over the rows j of the same user with `is_labelled[j]` and
    `known_at[j] < timestamps[i]`, strictly. An impression's label is known only when
    its response window is over, which can be after the user's next impression.
    A user without a past gets 1/2, and a single answer moves it only so far.

    A row's mean hangs on its own user alone, to the last bit: the sums are those of
    integers (multiples of 2^-64), so neither other users nor the order of the labels
    can change them. What is off by at most `count * 2^-64` is a sum with labels below
    2^-11, whose last bits are cut off; for all others only the result is rounded.

    Args:
        users: [N] any comparable type; rows of one user are adjacent; N < 2^31.
        timestamps: [N] int64, not falling within a user.
        labels: [N] float in [0, 1]; read where `is_labelled`.
        is_labelled: [N] bool, whether the row has a label.
        known_at: [N] int64, in any order, `>= timestamps`; read where `is_labelled`.

    Returns:
        means: [N] float64.

    Raises:
        ValueError: if timestamps fall within a user, a label is outside of [0, 1], or
            one is known before its event.

    Not checked: that rows of one user are adjacent.
    """
    num_rows = len(timestamps)
    if num_rows == 0:
        return np.zeros(0)
    labelled = np.flatnonzero(is_labelled)
    labels, known_at = labels[labelled], known_at[labelled]
    if not np.all((labels >= 0) & (labels <= 1)):
        raise ValueError("`labels` should be in [0, 1] where `is_labelled`.")
    if np.any(known_at < timestamps[labelled]):
        raise ValueError("`known_at` should be >= `timestamps` where `is_labelled`.")
    user_begin = first_of_run(same_user_as_above(users, timestamps))
    # The first row that may know a label, or where the next user's rows begin.
    knows_from = np.searchsorted(
        _by_user_and_time(user_begin, timestamps),
        _by_user_and_time(user_begin[labelled], known_at),
        side="right",
    )

    def known_sums(values: np.ndarray) -> np.ndarray:
        sums = np.zeros(num_rows + 1, np.int64)
        np.add.at(sums, knows_from, values)
        sums = np.cumsum(sums[:-1])
        return sums - sums[user_begin]

    scaled = labels.astype(np.float64) * 2.0**32
    high = np.floor(scaled)
    low = np.floor((scaled - high) * 2.0**32)
    total = (
        known_sums(low.astype(np.int64)) * 2.0**-64
        + known_sums(high.astype(np.int64)) * 2.0**-32
    )
    return smoothed_mean(total, known_sums(np.ones(len(labels), np.int64)))


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


def _by_user_and_time(users: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Returns [N] complex keys; NumPy compares the real parts first, then the others.

    One int64 could not hold both. Each is below 2^53, so a float64 is exact.
    """
    keys = np.empty(len(users), np.complex128)
    keys.real, keys.imag = users, timestamps
    return keys
