"""Which layer of a lifelong memory answers for which interest, of some test rows.

HPMN's low layers move with each event and its high ones seldom. If that is worth
anything, an interest of yesterday is read from low layers, one of long ago from high ones.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from components.read_examples import JudgedRows
from schemas.features import HISTORY

RECENT, FAR, MIXED, NEW = "recent", "far", "mixed", "new"
_INTERESTS = (RECENT, FAR, MIXED, NEW)
_RECENT_SHARE = 1 / 3
_LEAST_EVENTS = 6  # of a shorter history, everything is recent
_MAX_ROWS = 2000
_SHOWN_OF_EACH = 3

Attention = Callable[[np.ndarray], np.ndarray]  # tf.Examples [n] -> [n, D]


@dataclasses.dataclass(frozen=True)
class LayerAttention:
    """How much some rows read from each layer.

    Attributes:
        users: labels of the rows chosen to be shown.
        of_users: [R, D] what each of them reads; the sum over layers is 1.
        interests: labels of the groups of rows.
        of_interests: [G, D] the mean over each.
    """

    users: tuple[str, ...]
    of_users: np.ndarray
    interests: tuple[str, ...]
    of_interests: np.ndarray


def interest_of(history: np.ndarray, item: bytes) -> str:
    """Tells where in a history its next item was met.

    Args:
        history: ids of items, oldest first.
        item: what was liked next.

    Returns:
        RECENT if in the newest third alone, FAR if before it alone, MIXED if in both, NEW
        if nowhere.
    """
    places = np.flatnonzero(history == item)
    if not len(places):
        return NEW
    is_recent = len(history) - places <= _RECENT_SHARE * len(history)
    if is_recent.all():
        return RECENT
    return MIXED if is_recent.any() else FAR


def measure_attention(
    test: JudgedRows, attention: Attention, users: tuple[str, ...] = (), seed: int = 0
) -> LayerAttention | None:
    """Reads the attention of positive rows, and chooses some of them to be shown.

    Args:
        test: the rows.
        attention: gives the weights of D layers.
        users: who is to be shown, by their last positive row; without, those with the
            longest histories of each interest.
        seed: seeds the sample, where there are many rows.

    Returns:
        None where no positive row has six events or more before it.
    """
    is_long = test.history_lengths >= _LEAST_EVENTS
    rows = np.flatnonzero((test.labels > 0.5) & is_long)
    named = _last_rows(test, rows, users)
    if len(rows) > _MAX_ROWS:
        rng = np.random.default_rng(seed)
        rows = np.union1d(rng.choice(rows, _MAX_ROWS, replace=False), named)
    if not len(rows):
        return None
    interests = _interests(test, rows)
    weights = attention(test.serialized[rows])
    shown = np.searchsorted(rows, named) if users else _longest(test, rows, interests)
    present = [name for name in _INTERESTS if (interests == name).any()]
    return LayerAttention(
        users=tuple(
            f"{test.users[rows[place]].decode(errors='replace')}: {interests[place]}, "
            f"{test.history_lengths[rows[place]]} events"
            for place in shown
        ),
        of_users=weights[shown],
        interests=tuple(f"{name} ({(interests == name).sum()})" for name in present),
        of_interests=np.stack(
            [weights[interests == name].mean(axis=0) for name in present]
        ),
    )


def _last_rows(
    test: JudgedRows, rows: np.ndarray, users: tuple[str, ...]
) -> np.ndarray:
    """Returns the last of `rows` of each of the users who has any, ascending."""
    last = {test.users[row]: row for row in rows[np.argsort(test.timestamps[rows])]}
    found = {last[user.encode()] for user in users if user.encode() in last}
    return np.array(sorted(found), np.int64)


def _interests(test: JudgedRows, rows: np.ndarray) -> np.ndarray:
    spec = {HISTORY: tf.io.RaggedFeature(tf.string)}
    serialized = tf.constant(test.serialized[rows], tf.string)
    history = tf.io.parse_example(serialized, spec)[HISTORY]
    items, ends = history.flat_values.numpy(), history.row_splits.numpy()
    return np.array(
        [
            interest_of(items[begin:end], test.items[row])
            for row, begin, end in zip(rows, ends[:-1], ends[1:], strict=True)
        ]
    )


def _longest(test: JudgedRows, rows: np.ndarray, interests: np.ndarray) -> list[int]:
    """Returns places of rows with long histories, of each interest, no user twice."""
    by_length = np.argsort(-test.history_lengths[rows], kind="stable")
    shown: list[int] = []
    users = set()
    for interest in _INTERESTS:
        left = _SHOWN_OF_EACH
        for place in by_length[interests[by_length] == interest]:
            if left and test.users[rows[place]] not in users:
                users.add(test.users[rows[place]])
                shown.append(int(place))
                left -= 1
    return shown
