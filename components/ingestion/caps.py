"""Caps against runaway accounts: a robot's day must not outweigh a thousand users'."""

import numpy as np

from schemas.events import DAY_MS
from schemas.runs import first_of_run, same_user_as_above


def within_daily_cap(
    users: np.ndarray, timestamps: np.ndarray, limit: int
) -> np.ndarray:
    """Returns which events are among the first of their user's UTC day.

    The order of the rows decides among events of one timestamp, so what is kept does
    not hang on how the log was read when the rows are sorted by event_id last.

    Args:
        users: [N] any comparable type; rows of one user are adjacent.
        timestamps: [N] int64, ms since the epoch, at least 0, not falling within a
            user.
        limit: the events kept of each user and day, at least 1.

    Returns:
        kept: [N] bool.

    Raises:
        ValueError: if `limit` < 1, or timestamps fall within a user.

    Not checked: that rows of one user are adjacent, that timestamps are not negative.
    """
    if limit < 1:
        raise ValueError(f"`limit` should be >= 1. Received: limit={limit}")
    if len(timestamps) == 0:
        return np.zeros(0, bool)
    days = timestamps // DAY_MS
    same_day = same_user_as_above(users, timestamps) & (days[1:] == days[:-1])
    return np.arange(len(timestamps)) - first_of_run(same_day) < limit
