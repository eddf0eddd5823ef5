"""What the accepted events of some users come to: order, labels, rewards, fates."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.caps import within_daily_cap
from components.ingestion.responses import join_responses
from components.ingestion.settings import DataSettings, EventType
from schemas.events import MINUTE_MS
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    REQUEST_ID,
    TIMESTAMP,
    USER_ID,
    VALUE,
)
from schemas.sessions import session_starts


@dataclasses.dataclass(frozen=True)
class ShardEvents:
    """The events kept of some users, N of them, by (timestamp, event_id).

    Attributes:
        table: [N] rows, the canonical columns.
        user_ids, item_ids: the distinct ids.
        user_of, item_of, types: [N] int64, indices into them and into the declared
            event types.
        by_user: [N] int64, the rows by (user, timestamp, event_id).
        timestamps: [N] int64.
        requests: [N] int64, equal for events of one request id, -1 without one.
        positive: [N] bool, whether the event enters histories.
        is_labelled: [N] bool, whether its type gives the ranker a row.
        is_open: [N] bool, whether its response window is not over.
        label, reward, value: [N] float64, those of the counting response where there
            is one, else the event's own; a value may be NaN.
        known_at: [N] int64, when the label of a labelled event is known.
        fates: [N] int8 `responses.Fate`.
        num_answered: impressions with a counting response.
        session_start: [N] int64 ms, or None where sessions are not asked for.
        num_sessions: 0 where they are not.
        num_capped, num_capped_users: events beyond the daily cap, and their users.
    """

    table: pa.Table
    user_ids: pa.Array
    item_ids: pa.Array
    user_of: np.ndarray
    item_of: np.ndarray
    types: np.ndarray
    by_user: np.ndarray
    timestamps: np.ndarray
    requests: np.ndarray
    positive: np.ndarray
    is_labelled: np.ndarray
    is_open: np.ndarray
    label: np.ndarray
    reward: np.ndarray
    value: np.ndarray
    known_at: np.ndarray
    fates: np.ndarray
    num_answered: int
    session_start: np.ndarray | None
    num_sessions: int
    num_capped: int
    num_capped_users: int

    @property
    def has_row(self) -> np.ndarray:
        """[N] bool, whether the ranker learns from the event."""
        return self.is_labelled & ~self.is_open

    @property
    def is_interaction(self) -> np.ndarray:
        """[N] bool, whether retrieval learns from the event.

        The reward of an open impression is not settled: its row comes with the next
        ingestion, and only once.
        """
        return self.positive & ~self.is_open


def shard_events(
    events: pa.Table, settings: DataSettings, closed_at: int
) -> ShardEvents:
    """Puts the events of some users in order and joins them.

    Args:
        events: all accepted events of the users, in any order.
        settings: what event types mean.
        closed_at: ms; response windows are judged as of it.
    """
    events = events.take(pa.array(time_order(events)))
    users = events[USER_ID].combine_chunks().dictionary_encode()
    num_capped = num_capped_users = 0
    if settings.max_events_per_user_per_day is not None:
        kept = _within_cap(events, users, settings.max_events_per_user_per_day)
        num_capped = int(np.count_nonzero(~kept))
        num_capped_users = len(np.unique(users.indices.to_numpy()[~kept]))
        events = events.filter(pa.array(kept))
        users = events[USER_ID].combine_chunks().dictionary_encode()
    items = events[ITEM_ID].combine_chunks().dictionary_encode()
    user_of, item_of = _indices(users), _indices(items)
    timestamps = events[TIMESTAMP].to_numpy()
    types = _types(events, settings)
    requests = _requests(events)
    window_ms = round(settings.response_window_minutes * MINUTE_MS)
    answers = _answers(settings)
    answer, fates = join_responses(
        _join_keys(user_of, requests, item_of), timestamps, types, answers, window_ms
    )
    label, reward, value = _outcomes(events, types, settings, answer)
    is_answered = np.isin(np.arange(len(answers)), answers)[types]
    known_at = timestamps + np.where(is_answered, window_ms, 0)
    by_user = np.argsort(user_of, kind="stable")
    session_start, num_sessions = _sessions(
        user_of[by_user], timestamps[by_user], by_user, settings
    )
    return ShardEvents(
        table=events,
        user_ids=users.dictionary,
        item_ids=items.dictionary,
        user_of=user_of,
        item_of=item_of,
        types=types,
        by_user=by_user,
        timestamps=timestamps,
        requests=requests,
        positive=of_types(settings, lambda kind: kind.positive, bool)[types],
        is_labelled=of_types(settings, lambda kind: kind.is_labelled, bool)[types],
        is_open=is_answered & (known_at >= closed_at),
        label=label,
        reward=reward,
        value=value,
        known_at=known_at,
        fates=fates,
        num_answered=int(np.count_nonzero(answer >= 0)),
        session_start=session_start,
        num_sessions=num_sessions,
        num_capped=num_capped,
        num_capped_users=num_capped_users,
    )


def time_order(events: pa.Table) -> np.ndarray:
    """Returns the rows by (timestamp, event_id)."""
    timestamps = events[TIMESTAMP].to_numpy()
    order = np.argsort(timestamps, kind="stable")
    ordered = timestamps[order]
    same = np.zeros(len(ordered) + 1, bool)
    same[1:-1] = ordered[1:] == ordered[:-1]
    # Ids are long to compare: only those of rows that share a timestamp are.
    tied = np.flatnonzero(same[1:] | same[:-1])
    if len(tied) == 0:
        return order
    ids = events[EVENT_ID].combine_chunks().take(pa.array(order[tied]))
    rank = np.empty(len(tied), np.int64)
    rank[pc.sort_indices(ids).to_numpy()] = np.arange(len(tied))
    order[tied] = order[tied][np.lexsort((rank, ordered[tied]))]
    return order


def of_types(
    settings: DataSettings, get: Callable[[EventType], Any], dtype: Any
) -> np.ndarray:
    """Returns `get` of each declared event type, in the order of declaration."""
    return np.array([get(kind) for kind in settings.event_types.values()], dtype)


def _indices(encoded: pa.DictionaryArray) -> np.ndarray:
    return encoded.indices.to_numpy().astype(np.int64)


def _types(events: pa.Table, settings: DataSettings) -> np.ndarray:
    declared = pa.array(list(settings.event_types), pa.string())
    found = pc.index_in(events[EVENT_TYPE].combine_chunks(), value_set=declared)
    return found.to_numpy().astype(np.int64)


def _requests(events: pa.Table) -> np.ndarray:
    encoded = events[REQUEST_ID].combine_chunks().dictionary_encode()
    return pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)


def _answers(settings: DataSettings) -> np.ndarray:
    names = list(settings.event_types)
    return of_types(
        settings,
        lambda kind: -1 if kind.answers is None else names.index(kind.answers),
        np.int64,
    )


def _join_keys(
    user_of: np.ndarray, requests: np.ndarray, item_of: np.ndarray
) -> np.ndarray:
    """Returns [N] int64, equal for the events of one user, request and item; or -1."""
    num_requests, num_items = requests.max(initial=-1) + 1, item_of.max(initial=-1) + 1
    # Numbered anew in between, so that the product stays within int64.
    of_request = np.unique(user_of * num_requests + requests, return_inverse=True)[1]
    return np.where(requests >= 0, of_request * num_items + item_of, -1)


def _outcomes(
    events: pa.Table, types: np.ndarray, settings: DataSettings, answer: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns label, reward and value of each row, its counting response's if any.

    A type without a label rule is in `interactions` only; its rows carry 1, as
    interactions, so that every row of every service has the same fields.
    """
    fixed = of_types(
        settings, lambda kind: 1.0 if kind.label is None else kind.label, np.float64
    )[types]
    at_least = of_types(
        settings,
        lambda kind: (
            kind.label_from_value.at_least if kind.label_from_value else np.nan
        ),
        np.float64,
    )[types]
    value = np.asarray(events[VALUE].fill_null(np.nan), np.float64)
    label = np.where(np.isnan(at_least), fixed, value >= at_least)
    reward = of_types(settings, lambda kind: kind.reward, np.float64)[types]
    # A row without a response answers for itself.
    by = np.where(answer >= 0, answer, np.arange(len(answer)))
    return label[by], reward[by], np.where(np.isnan(value[by]), value, value[by])


def _within_cap(events: pa.Table, users: pa.DictionaryArray, limit: int) -> np.ndarray:
    """Returns [N] bool; the rows are in the order of time."""
    user_of = _indices(users)
    by_user = np.argsort(user_of, kind="stable")
    kept = np.empty(len(user_of), bool)
    kept[by_user] = within_daily_cap(
        user_of[by_user], events[TIMESTAMP].to_numpy()[by_user], limit
    )
    return kept


def _sessions(
    users: np.ndarray,
    timestamps: np.ndarray,
    by_user: np.ndarray,
    settings: DataSettings,
) -> tuple[np.ndarray | None, int]:
    """Returns when each row's session began, and the number of sessions.

    Args:
        users, timestamps: [N] by user.
        by_user: [N] the rows in that order.
        settings: with or without a session gap.
    """
    if settings.session_gap_minutes is None:
        return None, 0
    gap_ms = round(settings.session_gap_minutes * MINUTE_MS)
    starts = session_starts(users, timestamps, gap_ms)
    out = np.empty(len(starts), np.int64)
    out[by_user] = timestamps[starts]
    return out, int(np.count_nonzero(starts == np.arange(len(starts))))
