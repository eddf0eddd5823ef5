"""Joins responses to the impressions they answer.

A response (a click) belongs to the latest impression of its user, request and item at
or before it, and counts if it came within the window. Each impression takes at most one
response. Nothing is dropped here: each response's fate is returned, for the account.
"""

import enum

import numpy as np

from schemas.runs import first_of_run


class Fate(enum.IntEnum):
    """What became of an event that answers another."""

    NONE = 0  # its type answers nothing
    JOINED = 1  # within the window of its impression
    LATE = 2  # after the window
    EARLY = 3  # before every impression of its user, request and item
    ORPHAN = 4  # no impression of its user, request and item, or no request


def join_responses(
    keys: np.ndarray,
    timestamps: np.ndarray,
    types: np.ndarray,
    answers: np.ndarray,
    window_ms: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds each response's impression, and each impression's counting response.

    The impression of a response is the latest of the answered type, with the same key
    and `timestamp <= response's timestamp`; of equal timestamps the later row is the
    latest, on whichever side of the response it stands. Of the responses joined to one
    impression, that of the lowest type index counts; within a type the earliest. Rows
    may stand in any order; of equal timestamps the upper row is the earlier.

    Args:
        keys: [N] int64, equal for the events of one user, request and item; -1 for an
            event without a request.
        timestamps: [N] int64, ms.
        types: [N] integer, index of the event's type in the order of declaration.
        answers: [types] integer, the type index that each type answers, -1 for none.
        window_ms: the longest distance at which a response counts, inclusive.

    Returns:
        answer: [N] int64, the row of the response that counts for each impression; -1
            for an impression without one and for all other rows.
        fate: [N] int8, the `Fate` of each row.

    Raises:
        ValueError: if `window_ms` < 0, or an answered type is itself a response.
    """
    if window_ms < 0:
        raise ValueError(f"`window_ms` should be >= 0. Received: window_ms={window_ms}")
    answered_types = np.unique(answers[answers >= 0])
    if np.any(answers[answered_types] >= 0):
        raise ValueError(
            "an answered type should not answer another. Received: answers="
            f"{answers.tolist()}"
        )
    answer = np.full(len(keys), -1, np.int64)
    fate = np.full(len(keys), Fate.NONE, np.int8)
    if len(answered_types) == 0:
        return answer, fate

    is_impression = np.isin(np.arange(len(answers)), answered_types)[types]
    target = answers[types]  # of a response; -1 elsewhere
    fate[target >= 0] = Fate.ORPHAN
    has_key = keys >= 0
    responses = np.flatnonzero((target >= 0) & has_key)
    impressions = np.flatnonzero(is_impression & has_key)
    impressions = impressions[_may_be_among(keys[impressions], keys[responses])]
    row, delta, has_any = _latest_impressions(
        np.concatenate([impressions, responses]),
        len(impressions),
        keys,
        np.where(is_impression, types, target),
        timestamps,
    )
    fate[responses] = np.select(
        [~has_any, row < 0, delta <= window_ms],
        [Fate.ORPHAN, Fate.EARLY, Fate.JOINED],
        Fate.LATE,
    )
    joined = fate[responses] == Fate.JOINED
    responses, row = responses[joined], row[joined]
    # lexsort is stable: within a type and a timestamp the upper row stays first.
    order = np.lexsort((timestamps[responses], types[responses], row))
    responses, row = responses[order], row[order]
    first = np.ones(len(row), bool)
    first[1:] = row[1:] != row[:-1]
    answer[row[first]] = responses[first]
    return answer, fate


def _may_be_among(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns [K] bool: True for each key among `wanted`, and for some others.

    Most impressions have no response; those need not be sorted.
    """
    size = 1 << (8 * len(wanted)).bit_length()
    is_wanted = np.zeros(size, bool)
    is_wanted[wanted & (size - 1)] = True
    return is_wanted[keys & (size - 1)]


def _latest_impressions(
    rows: np.ndarray,
    num_impressions: int,
    keys: np.ndarray,
    targets: np.ndarray,
    timestamps: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the latest impression at or before each response.

    Args:
        rows: [R] int64, the impressions' rows, then the responses', each rising.
        num_impressions: how many of `rows` are impressions, P.
        keys, timestamps: as `join_responses`.
        targets: [N] integer, type of an impression, answered type of a response.

    Returns:
        row: [R - P] int64 of the impression, -1 where all are later or none is.
        delta: [R - P] int64, ms since it; meaningless without one.
        has_any: [R - P] bool, whether there is an impression at any time.
    """
    if len(rows) == 0:
        return rows, rows, np.zeros(0, bool)
    keys, targets, timestamps = keys[rows], targets[rows], timestamps[rows]
    # Stable: at one timestamp impressions come before responses, in the order of rows.
    order = np.lexsort((timestamps, targets, keys))
    keys, targets, timestamps = keys[order], targets[order], timestamps[order]
    is_impression = order < num_impressions
    same_group = (keys[1:] == keys[:-1]) & (targets[1:] == targets[:-1])
    group_begin = first_of_run(same_group)
    place = np.arange(len(rows))
    latest = np.maximum.accumulate(np.where(is_impression, place, -1))
    in_group = latest >= group_begin
    # A group's last place knows whether the group has an impression at all.
    group_last = len(rows) - 1 - first_of_run(same_group[::-1])[::-1]
    found = np.where(in_group, rows[order][latest], -1)
    out = np.empty((3, len(rows)), np.int64)
    out[:, order] = found, timestamps - timestamps[latest], in_group[group_last]
    row, delta, has_any = out[:, num_impressions:]
    return row, delta, has_any.astype(bool)
