"""Runs of neighbouring rows: how sorted rows are worked on by user without a loop."""

import numpy as np


def same_user_as_above(users: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Returns which rows are of the user of the row above, and checks their order.

    Args:
        users: [N] any comparable type; rows of one user are adjacent.
        timestamps: [N] int64, not falling within a user.

    Returns:
        [max(N - 1, 0)] bool, whether row i + 1 is of the user of row i.

    Raises:
        ValueError: if timestamps fall within a user.

    Not checked: that rows of one user are adjacent.
    """
    same_user = users[1:] == users[:-1]
    if np.any(same_user & (timestamps[1:] < timestamps[:-1])):
        raise ValueError(
            "`timestamps` should not fall within a user; sort the rows by user and "
            "timestamp first."
        )
    return same_user


def first_of_run(continues: np.ndarray) -> np.ndarray:
    """Returns, for each of N >= 1 rows, the first row of its run.

    Args:
        continues: [N - 1] bool, whether row i + 1 belongs to the run of row i.

    Returns:
        [N] int64.
    """
    rows = np.arange(len(continues) + 1)
    rows[1:][continues] = 0
    return np.maximum.accumulate(rows)
