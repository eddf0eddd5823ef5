"""Ingestions that leak: each plants one fault in ours, and must be rejected.

A plant takes pytest's `monkeypatch` and returns a replay like `ingestion_runs.replayed`.
"""

import numpy as np

from components.ingestion import plan, rows, shard
from schemas import history
from tests.components import ingestion_oracle as oracle
from tests.components import ingestion_runs as runs
from tests.components.ingestion_account import account, in_order


def _history(monkeypatch, sees):
    """Histories of the events j that row i sees, the latest `length` of them."""

    def spans(users, timestamps, positive, length):
        start, end = np.empty((2, len(users)), np.int64)
        for i in range(len(users)):
            mine = users == users[i]
            seen = mine & sees(i, np.arange(len(users)), timestamps)
            before = np.count_nonzero(positive & (users < users[i]))
            end[i] = before + np.count_nonzero(positive & seen)
            start[i] = max(before, end[i] - length)
        return start, end

    monkeypatch.setattr(rows, "history_spans", spans)
    return runs.replayed


def same_basket(monkeypatch):
    """`<=` for `<`: a row sees what shares its moment, itself included."""
    return _history(monkeypatch, lambda i, j, moments: moments <= moments[i])


def basket_lines_above(monkeypatch):
    """The order of rows for the order of time."""
    return _history(monkeypatch, lambda i, j, moments: j < i)


def next_event(monkeypatch):
    """One event of the future."""
    return _history(monkeypatch, lambda i, j, moments: j <= i + 1)


def own_item(monkeypatch):
    """A row's history holds its own item, at the end."""

    def leak(row, log):
        row["history_item_ids"] = [*row["history_item_ids"], *row["item_id"]]

    return _each_row(leak)


def _labels(monkeypatch, counts):
    """Means of the labels of the events j with `counts(known_at[j], j, row's)`."""

    def means(users, timestamps, labels, is_labelled, known_at):
        out = np.empty(len(users))
        for i in range(len(users)):
            seen = is_labelled & (users == users[i])
            seen &= counts(known_at, timestamps, timestamps[i])
            out[i] = history.smoothed_mean(labels[seen].sum(), seen.sum())
        return out

    monkeypatch.setattr(rows, "mean_labels", means)
    return runs.replayed


def late_join(monkeypatch):
    """A label counts from its impression on, though the response comes later."""
    return _labels(monkeypatch, lambda known_at, moments, now: moments < now)


def label_at_window_end(monkeypatch):
    """A label counts at the very moment at which its window ends."""
    return _labels(monkeypatch, lambda known_at, moments, now: known_at <= now)


def label_of_all_time(monkeypatch):
    """The user's mean over the whole log, as an encoder fitted on it would have it."""
    return _labels(monkeypatch, lambda known_at, moments, now: True)


def session_end(monkeypatch):
    """A session is named after its last event."""

    def starts(users, timestamps, gap_ms):
        parted = (users[1:] != users[:-1]) | (np.diff(timestamps) > gap_ms)
        last = np.flatnonzero(np.append(parted, True))
        return last[np.searchsorted(last, np.arange(len(users)))]

    monkeypatch.setattr(shard, "session_starts", starts)
    return runs.replayed


def cap_by_whole_day(monkeypatch):
    """A day that turns out too long loses its events from the first one on."""

    def within(users, timestamps, limit):
        days = timestamps // 86_400_000
        size = [
            np.count_nonzero((users == users[i]) & (days == days[i]))
            for i in range(len(users))
        ]
        return np.array(size, np.int64) <= limit

    monkeypatch.setattr(shard, "within_daily_cap", within)
    return runs.replayed


def label_in_context(monkeypatch):
    """A context column tells the outcome."""

    def leak(row, log):
        row["context_hour"] = row["label"]

    return _each_row(leak)


def context_of_the_response(monkeypatch):
    """An impression has its response's context."""

    def leak(row, log):
        for response in _responses(row, log):
            row["context_device"] = [f"{response['event_id']}:{response['device']}"]

    return _each_row(leak)


def history_of_the_response(monkeypatch):
    """An impression is written when it is answered, with the history of then."""

    def leak(row, log):
        for response in _responses(row, log)[:1]:
            past = [e for e in _events(log) if e["timestamp"] < response["timestamp"]]
            found = oracle.features(response, past, log.declared)
            row["history_item_ids"] = found["history_item_ids"]

    return _each_row(leak)


def window_without_end(monkeypatch):
    """A response counts for its impression however late it is."""
    join = shard.join_responses

    def forever(keys, timestamps, types, answers, window_ms):
        return join(keys, timestamps, types, answers, 10**12)

    monkeypatch.setattr(shard, "join_responses", forever)
    return runs.replayed


def open_impressions(monkeypatch):
    """Impressions get rows before their windows are over."""
    monkeypatch.setattr(plan.Plan, "closed_at", lambda self, cuts: 10**15)
    return runs.replayed


def split_by_rank(monkeypatch):
    """Splits of exact shares, which part events of one moment."""

    def split_of(timestamps, cuts):
        return (np.arange(len(timestamps)) * 3 // max(len(timestamps), 1)).astype("i1")

    monkeypatch.setattr(rows, "split_of", split_of)
    return runs.replayed


def negatives_among_the_seen(monkeypatch):
    """Negatives are drawn from the whole catalogue, the row's own item included."""
    sampled = rows.sampled_items

    def anything(event_ids, num_negatives, excluded_offsets, excluded_items, num_items):
        nothing = np.zeros_like(excluded_offsets)
        return sampled(event_ids, num_negatives, nothing, excluded_items[:0], num_items)

    monkeypatch.setattr(rows, "sampled_items", anything)
    return runs.replayed


def _each_row(leak):
    def replayed(log):
        outcome = runs.replayed(log)
        for found in outcome.rows.values():
            for row in found.values():
                leak(row, log)
        return outcome

    return replayed


def _events(log):
    return in_order(account(log.files, log.declared).accepted)


def _responses(row, log):
    """Returns what answers the row's event within its window."""
    events = {event["event_id"]: event for event in _events(log)}
    event = events.get(row["event_id"][0])
    if event is None or not log.declared.is_answered(event):
        return []
    window = oracle.window_of(event, list(events.values()), log.declared)
    return [
        other
        for other in in_order(window)
        if "answers" in log.declared.kind(other)
        and oracle.answer(other, window, log.declared)[1] == event
    ]
