"""The ingestion, slow and plain: one event at a time, looking back by brute force.

It shares no code with the package but the names of the keys' contract, spelled out here.
It cannot look ahead: `features` is handed the events strictly before the row's, and
`outcome` the events from the row's moment to the end of its response window.
"""

import dataclasses
import math

import numpy as np

from tests.components.ingestion_account import (
    Declared,
    LogFile,
    account,
    in_order,
    is_over_cap,
)

SPLITS = ("train", "eval", "test")


@dataclasses.dataclass(frozen=True)
class Sampled:
    """The negatives of one labelled row: what each must be but for its item."""

    split: str
    number: int
    row: dict  # without event_id, item_id and item features
    excluded: set


@dataclasses.dataclass
class Replay:
    """All that comes of the accepted events."""

    rows: dict  # (examples, split) -> event_id -> row
    sampled: dict  # event_id of the labelled row -> Sampled
    catalogue: dict  # item_id -> features
    capped: set
    fates: dict  # event_id of a response -> joined, late, early or orphan
    answered: set  # impressions with a joined response
    open: set  # impressions without a row yet
    sessions: set  # (user, first moment)
    events: dict  # split -> number
    num_labelled: int = 0  # labelled events that are kept, open ones among them


# --- What a row knows of the past -------------------------------------------------------


def features(event, past, declared):
    """Returns the row's features; `past`: kept events with an earlier timestamp."""
    assert all(other["timestamp"] < event["timestamp"] for other in past)
    own = [other for other in past if other["user_id"] == event["user_id"]]
    positive = [other for other in in_order(own) if declared.kind(other)["positive"]]
    mean = smoothed(known_labels(event["timestamp"], own, declared))
    row = {
        "timestamp": [event["timestamp"]],
        "user_id": [event["user_id"]],
        "event_type": [event["event_type"]],
        "history_item_ids": [o["item_id"] for o in positive][
            -declared.history_length :
        ],
        "user_mean_label": [float(np.float32(mean))],
    }
    if declared.session_gap_ms is not None:
        row["session_start"] = [session_start(event, own, declared.session_gap_ms)]
    row |= as_features("user", declared.users.get(event["user_id"], {}))
    return row | as_features("context", {k: event.get(k) for k in declared.context})


def known_labels(moment, own, declared):
    """Returns the labels known strictly before `moment`, of events before it."""
    return [
        outcome(other, window_of(other, own, declared), declared)["label"][0]
        for other in own
        if declared.is_labelled(other) and declared.known_at(other) < moment
    ]


def smoothed(labels):
    return (sum(labels) + 1.5) / (len(labels) + 3)


def session_start(event, own, gap_ms):
    start = event["timestamp"]
    for other in reversed(in_order(own)):
        if start - other["timestamp"] > gap_ms:
            break
        start = other["timestamp"]
    return start


def as_features(side, values):
    """Returns a table's values under the keys of a row; what is missing is absent."""
    return {
        f"{side}_{name}": value if isinstance(value, list) else [value]
        for name, value in values.items()
        if value not in (None, "", [])
    }


# --- What came of an event --------------------------------------------------------------


def window_of(event, events, declared):
    """Returns those of `events` from the event's moment to the end of its window."""
    end = event["timestamp"] + declared.window_ms
    return [o for o in events if event["timestamp"] <= o["timestamp"] <= end]


def answer(response, events, declared):
    """Returns (fate, impression) of a response among `events`."""
    if not response.get("request_id"):
        return "orphan", None
    impressions = [
        other
        for other in events
        if other["event_type"] == declared.kind(response)["answers"]
        and all(
            other.get(k) == response[k] for k in ("user_id", "request_id", "item_id")
        )
    ]
    before = [o for o in impressions if o["timestamp"] <= response["timestamp"]]
    if not before:
        return ("early" if impressions else "orphan"), None
    latest = in_order(before)[-1]
    delta = response["timestamp"] - latest["timestamp"]
    return ("joined" if delta <= declared.window_ms else "late"), latest


def outcome(event, window, declared):
    """Returns label, reward and value; `window`: as `window_of`, with or without it."""
    joined = [
        other
        for other in in_order(window)
        if "answers" in declared.kind(other)
        and answer(other, [event, *window], declared)[1] == event
    ]
    ranks = list(declared.event_types)
    joined.sort(key=lambda other: ranks.index(other["event_type"]))  # stable
    counting = joined[0] if joined else event
    kind = declared.kind(counting)
    label = label_of(counting, declared.event_types)
    row = {"label": [1.0 if label is None else label], "reward": [kind["reward"]]}
    values = [counting.get("value"), event.get("value")]
    row |= {"value": [v for v in values if v is not None][:1]}
    return {key: value for key, value in row.items() if value}


def label_of(event, event_types):
    """Returns the label by the event's own type, None where that has no label rule."""
    kind = event_types[event["event_type"]]
    if "at_least" in kind:
        return 1.0 if event["value"] >= kind["at_least"] else 0.0
    return kind.get("label")


# --- All rows ---------------------------------------------------------------------------


def replay(accepted, declared, closed_at):
    """Returns what comes of the accepted events, as of `closed_at`."""
    ordered = in_order(accepted)
    capped = {
        event["event_id"]
        for rank, event in enumerate(ordered)
        if is_over_cap(event, ordered[:rank], declared.daily_cap)
    }
    kept = [event for event in ordered if event["event_id"] not in capped]
    splits = split_names(accepted, declared.test_fraction, declared.eval_fraction)
    catalogue = declared.items
    if catalogue is None:
        catalogue = {event["item_id"]: {} for event in accepted}
    rows = {(n, s): {} for n in ("interactions", "impressions") for s in SPLITS}
    out = Replay(rows, {}, catalogue, capped, {}, set(), set(), set(), {})
    out.events = {split: 0 for split in SPLITS}
    for event in kept:
        name, split = event["event_id"], splits[event["event_id"]]
        out.events[split] += 1
        if "answers" in declared.kind(event):
            out.fates[name], impression = answer(event, kept, declared)
            if out.fates[name] == "joined":
                out.answered.add(impression["event_id"])
        out.num_labelled += declared.is_labelled(event)
        past = [o for o in kept if o["timestamp"] < event["timestamp"]]
        shared = features(event, past, declared)
        if declared.session_gap_ms is not None:
            out.sessions.add((event["user_id"], shared["session_start"][0]))
        if declared.is_answered(event) and declared.known_at(event) >= closed_at:
            out.open.add(name)
            continue
        row = shared | outcome(event, window_of(event, kept, declared), declared)
        row |= {"event_id": [name], "item_id": [event["item_id"]]}
        row |= as_features("item", catalogue.get(event["item_id"], {}))
        for key in ("position", "propensity"):
            if event.get(key) is not None:
                row[key] = [event[key]]
        if event.get("request_id"):
            row["request_id"] = [event["request_id"]]
        if declared.kind(event)["positive"]:
            rows["interactions", split][name] = row
        if declared.is_labelled(event):
            rows["impressions", split][name] = row
            number = declared.kind(event).get("sampled_negatives", 0)
            if number:
                negative = shared | {"label": [0.0], "reward": [0.0]}
                met = items_beside(event, kept)
                out.sampled[name] = Sampled(split, number, negative, met)
    return out


def profiles(accepted, declared, closed_at):
    """Returns user_id -> what serving knows of the user once the log is closed."""
    done = replay(accepted, declared, closed_at)
    out = {}
    for user in {e["user_id"] for e in accepted} | set(declared.users):
        own = [
            event
            for event in in_order(accepted)
            if event["user_id"] == user and event["event_id"] not in done.capped
        ]
        labels = [
            outcome(event, window_of(event, own, declared), declared)["label"][0]
            for event in own
            if declared.is_labelled(event) and event["event_id"] not in done.open
        ]
        items = [e["item_id"] for e in own if declared.kind(e)["positive"]]
        out[user] = {
            "mean_label": smoothed(labels),
            "history_item_ids": items[-declared.history_length :],
            "seen_item_ids": items[-2000:],
        }
    return out


def items_beside(event, events):
    """Returns the items of the user's events of the same moment or request."""
    return {
        other["item_id"]
        for other in events
        if other["user_id"] == event["user_id"]
        and (
            other["timestamp"] == event["timestamp"]
            or (
                event.get("request_id")
                and other.get("request_id") == event["request_id"]
            )
        )
    }


def check_rows(found, expected):
    """Raises AssertionError unless `found` holds the oracle's rows, and no other.

    Args:
        found: (examples, split) -> event_id -> row, sampled negatives among them.
        expected: the Replay.
    """
    found = {key: dict(rows) for key, rows in found.items()}
    for name, sampled in expected.sampled.items():
        for number in range(1, sampled.number + 1):
            negative_id = f"{name}~{number}"
            rows = found["impressions", sampled.split]
            assert negative_id in rows, f"{name} has no negative {number}"
            row = rows.pop(negative_id)
            item = row["item_id"][0]
            assert item in expected.catalogue, f"{negative_id}: no such item: {item}"
            assert item not in sampled.excluded, f"{negative_id}: was seen: {item}"
            assert row == {
                **sampled.row,
                **as_features("item", expected.catalogue[item]),
                "event_id": [negative_id],
                "item_id": [item],
            }
    assert found == expected.rows


def split_names(events, test_fraction, eval_fraction):
    """Returns event_id -> split by counting rank for rank."""
    in_time = sorted(event["timestamp"] for event in events)

    def cut(moments, fraction):
        later = round(len(moments) * fraction)
        return moments[len(moments) - later] if later else math.inf

    test_from = cut(in_time, test_fraction)
    eval_from = cut([t for t in in_time if t < test_from], eval_fraction)
    out = {}
    for event in events:
        if event["timestamp"] >= test_from:
            out[event["event_id"]] = "test"
        elif event["timestamp"] >= eval_from:
            out[event["event_id"]] = "eval"
        else:
            out[event["event_id"]] = "train"
    return out


# --- The same for logs without responses, spans and caps --------------------------------


def accepted_events(records, event_types):
    """Returns (accepted records, number of duplicates) of well-formed records."""
    done = account([LogFile(records)], Declared(event_types))
    return done.accepted, done.by_span.get("", {"duplicates": 0})["duplicates"]


def histories(events, event_types, length):
    """Returns event_id -> item ids, looking only at strictly earlier events."""
    declared = Declared(event_types, history_length=length)
    out = {}
    for event in events:
        past = [o for o in events if o["timestamp"] < event["timestamp"]]
        out[event["event_id"]] = features(event, past, declared)["history_item_ids"]
    return out


def mean_label(event, events, event_types):
    """Returns the smoothed mean label of the user's strictly earlier events."""
    own = [o for o in events if o["user_id"] == event["user_id"]]
    past = [o for o in own if o["timestamp"] < event["timestamp"]]
    return smoothed(known_labels(event["timestamp"], past, Declared(event_types)))


def expected_rows(records, event_types, items, users, length, test, eval_):
    """Returns {(examples, split): {event_id: row}} as plain dictionaries.

    Args:
        records: the log, each with every required column.
        event_types: name -> {"reward", "positive", "label", "at_least"}.
        items: item_id -> {"genres": [...], "title": str or None}.
        users: user_id -> {"age": float or None}.
        length: of histories.
        test, eval_: fractions.
    """
    declared = Declared(
        event_types,
        items,
        users,
        history_length=length,
        test_fraction=test,
        eval_fraction=eval_,
    )
    done = account([LogFile(records)], declared)
    return replay(done.accepted, declared, done.closed_at).rows


def decoded(serialized):
    """Returns a tf.Example as {key: list}, through TensorFlow's own parser."""
    from tensorflow.core.example.example_pb2 import Example

    row = {}
    for key, feature in Example.FromString(serialized).features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value)
        if kind == "bytes_list":
            values = [value.decode() for value in values]
        row[key] = values
    return row
