"""Sessions: a user's events, cut where the user was silent for long.

Ingestion and serving call the same function, so training and serving cannot disagree.
"""

import numpy as np

from schemas.runs import first_of_run, same_user_as_above


def session_starts(
    users: np.ndarray, timestamps: np.ndarray, gap_ms: int
) -> np.ndarray:
    """Returns the first row of each row's session.

    A session begins at a user's first row, and at each row whose distance to the row
    above is GREATER than the gap; at a distance of exactly the gap it goes on.

    Args:
        users: [N] any comparable type; rows of one user are adjacent.
        timestamps: [N] int64, ms, not falling within a user.
        gap_ms: the longest silence within a session, at least 0.

    Returns:
        starts: [N] int64 row indices, `starts[i] <= i`.

    Raises:
        ValueError: if `gap_ms` < 0, or timestamps fall within a user.

    Not checked: that rows of one user are adjacent.
    """
    if gap_ms < 0:
        raise ValueError(f"`gap_ms` should be >= 0. Received: gap_ms={gap_ms}")
    if len(timestamps) == 0:
        return np.zeros(0, np.int64)
    same_user = same_user_as_above(users, timestamps)
    return first_of_run(same_user & (np.diff(timestamps) <= gap_ms))
