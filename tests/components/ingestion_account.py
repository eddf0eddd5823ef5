"""What becomes of each record of a log, counted by hand: the oracle's first half.

It shares no code with the package; what a service declares stands here as plain values.
"""

import collections
import dataclasses
import datetime

DAY_MS = 86_400_000


@dataclasses.dataclass(frozen=True)
class Declared:
    """What a service declares, as plain values; times in ms."""

    event_types: dict  # name -> reward, positive, label | at_least, answers, sampled
    items: dict | None = dataclasses.field(default_factory=dict)  # None: no items table
    users: dict = dataclasses.field(default_factory=dict)
    context: tuple = ()
    history_length: int = 3
    test_fraction: float = 0.3
    eval_fraction: float = 0.25
    window_ms: int = 600_000
    session_gap_ms: int | None = None
    daily_cap: int | None = None
    closed_at: int | None = None
    max_late_days: int = 1
    max_early_ms: int = 600_000

    def kind(self, event):
        return self.event_types[event["event_type"]]

    def is_labelled(self, event):
        kind = self.kind(event)
        return ("label" in kind or "at_least" in kind) and "answers" not in kind

    def is_answered(self, event):
        kinds = self.event_types.values()
        return any(kind.get("answers") == event["event_type"] for kind in kinds)

    def known_at(self, event):
        """Returns when the label of a labelled event can be known."""
        return event["timestamp"] + (self.window_ms if self.is_answered(event) else 0)


@dataclasses.dataclass(frozen=True)
class LogFile:
    """Records of one file, in order; None stands for one that breaks a rule of its own.

    `span` is a day such as "2026-11-21", a number such as "17", or "".
    """

    records: list
    span: str = ""


@dataclasses.dataclass
class Account:
    """What became of each record of the event log."""

    accepted: list
    by_span: dict  # span -> Counter of read, accepted, duplicates, dead_letters
    dead: list  # (number of the file, number of the record in it), both from 0
    closed_at: int


def in_order(events):
    return sorted(events, key=event_order)


def event_order(event):
    return event["timestamp"], event["event_id"]


def day_start(span):
    """Returns the first ms of a dated span, None for any other."""
    try:
        day = datetime.date.fromisoformat(span)
    except ValueError:
        return None
    return (day - datetime.date(1970, 1, 1)).days * DAY_MS


def is_in_span(record, span, declared):
    start = day_start(span)
    if start is None:
        return True
    earliest = start - declared.max_late_days * DAY_MS
    latest = start + DAY_MS + declared.max_early_ms
    return earliest <= record["timestamp"] <= latest


def is_after_export(record, declared):
    """A derived end of the log refuses nothing: a newest day may have fast clocks."""
    return declared.closed_at is not None and record["timestamp"] >= declared.closed_at


def moment_closed(files, declared):
    """Returns the declared end of the log, that of its newest day, or None."""
    if declared.closed_at is not None:
        return declared.closed_at
    days = [day_start(file.span) for file in files]
    ends = [start + DAY_MS for start in days if start is not None]
    return max(ends, default=None)


def account(files, declared):
    """Reads the files, those that win among equals first."""
    closed_at = moment_closed(files, declared)
    by_span = collections.defaultdict(collections.Counter)
    dead, candidates = [], collections.defaultdict(list)
    for place, file in enumerate(files):
        for number, record in enumerate(file.records):
            by_span[file.span]["read"] += 1
            if (
                record is None
                or record["event_type"] not in declared.event_types
                or not is_in_span(record, file.span, declared)
                or is_after_export(record, declared)
            ):
                by_span[file.span]["dead_letters"] += 1
                dead.append((place, number))
                continue
            key = (record["timestamp"], place, number)
            candidates[record["event_id"]].append((key, file.span, record))
    accepted = []
    for copies in candidates.values():
        first, *others = sorted(copies, key=lambda copy: copy[0])
        accepted.append(first[2])
        by_span[first[1]]["accepted"] += 1
        for other in others:
            by_span[other[1]]["duplicates"] += 1
    if closed_at is None:
        closed_at = max((event["timestamp"] for event in accepted), default=-1) + 1
    return Account(accepted, dict(by_span), dead, closed_at)


def is_over_cap(event, before, cap):
    """`before`: the events that come before `event` in order."""
    if cap is None:
        return False
    that_day = [
        other
        for other in before
        if other["user_id"] == event["user_id"]
        and other["timestamp"] // DAY_MS == event["timestamp"] // DAY_MS
    ]
    return len(that_day) >= cap
