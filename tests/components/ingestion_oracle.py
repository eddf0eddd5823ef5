"""The ingestion, slow and plain: one event at a time, looking back by brute force.

It shares no code with the package but the names of the keys' contract, spelled out here.
"""

import math

import numpy as np


def accepted_events(records, event_types):
    """Returns (accepted records, number of duplicates) of well-formed records."""
    best = {}
    for position, record in enumerate(records):
        if record["event_type"] not in event_types:
            continue
        key = (record["timestamp"], position)
        if record["event_id"] not in best or key < best[record["event_id"]][0]:
            best[record["event_id"]] = (key, record)
    known = [r for r in records if r["event_type"] in event_types]
    return [record for _, record in best.values()], len(known) - len(best)


def histories(events, event_types, length):
    """Returns event_id -> item ids, looking only at strictly earlier events."""
    out = {}
    for event in events:
        earlier = [
            other
            for other in events
            if other["user_id"] == event["user_id"]
            and other["timestamp"] < event["timestamp"]
            and event_types[other["event_type"]]["positive"]
        ]
        earlier.sort(key=lambda other: (other["timestamp"], other["event_id"]))
        out[event["event_id"]] = [other["item_id"] for other in earlier][-length:]
    return out


def label_of(event, event_types):
    """Returns the event's label, None where its type has no label rule."""
    kind = event_types[event["event_type"]]
    if "at_least" in kind:
        return 1.0 if event["value"] >= kind["at_least"] else 0.0
    return kind.get("label")


def mean_label(event, events, event_types):
    """Returns the smoothed mean label of the user's strictly earlier events."""
    labels = [
        label_of(other, event_types)
        for other in events
        if other["user_id"] == event["user_id"]
        and other["timestamp"] < event["timestamp"]
    ]
    labels = [label for label in labels if label is not None]
    return (sum(labels) + 1.5) / (len(labels) + 3)


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
    events, _ = accepted_events(records, event_types)
    history = histories(events, event_types, length)
    split = split_names(events, test, eval_)
    out = {
        (name, which): {}
        for name in ("interactions", "impressions")
        for which in ("train", "eval", "test")
    }
    for event in events:
        kind = event_types[event["event_type"]]
        label = label_of(event, event_types)
        row = {
            "event_id": [event["event_id"]],
            "timestamp": [event["timestamp"]],
            "user_id": [event["user_id"]],
            "item_id": [event["item_id"]],
            "event_type": [event["event_type"]],
            "label": [1.0 if label is None else label],
            "reward": [kind["reward"]],
            "history_item_ids": history[event["event_id"]],
            "user_mean_label": [
                float(np.float32(mean_label(event, events, event_types)))
            ],
        }
        for name in ("value", "position", "propensity"):
            if event.get(name) is not None:
                row[name] = [event[name]]
        item = items.get(event["item_id"], {})
        if item.get("genres"):
            row["item_genres"] = item["genres"]
        if item.get("title"):
            row["item_title"] = [item["title"]]
        if users.get(event["user_id"], {}).get("age") is not None:
            row["user_age"] = [users[event["user_id"]]["age"]]
        which = split[event["event_id"]]
        if kind["positive"]:
            out["interactions", which][event["event_id"]] = row
        if label is not None:
            out["impressions", which][event["event_id"]] = row
    return out


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
