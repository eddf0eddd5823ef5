"""The end of the job for a query engine: histories, encoding and files, with NumPy.

The engine hands over the events of all users in order, with the response that counts
beside each impression; what is left is no query.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import ingest_job as job
from benchmarks.peers import tf_example as tfe

_SLICE = 250_000


@dataclasses.dataclass(frozen=True)
class Events:
    """Accepted events by (user, timestamp, event_id), and what they refer to.

    Attributes:
        event_ids: [N] str.
        request_ids: [N] str, None or "" for none.
        timestamps: [N] int64.
        user_of, item_of: [N] int64, into `users` and `items`.
        types: [N] int64, into the declared event types.
        positions: [N] int64, -1 for none.
        propensities: [N] float64, NaN for none.
        outcomes: [N] int64, the type that gives label and reward.
        users, items: the distinct ids.
        user_features, item_features: id -> row of the side table.
    """

    event_ids: list[str]
    request_ids: list[str | None]
    timestamps: np.ndarray
    user_of: np.ndarray
    item_of: np.ndarray
    types: np.ndarray
    positions: np.ndarray
    propensities: np.ndarray
    outcomes: np.ndarray
    users: list[str]
    items: list[str]
    user_features: dict[str, dict]
    item_features: dict[str, dict]


def write_rows(events: Events, folder: Path) -> dict[str, int]:
    """Writes all examples; returns the number by `<examples>/<split>`."""
    kinds = list(job.EVENT_TYPES.values())
    positive = np.array([kind["positive"] for kind in kinds])[events.types]
    is_impression = np.array(["answers" not in kind for kind in kinds])[events.types]
    eval_from, test_from = job.split_cuts(np.sort(events.timestamps))
    split = np.searchsorted([eval_from, test_from], events.timestamps, side="right")
    closed_at = events.timestamps.max(initial=0) + 1
    closed = events.timestamps + job.WINDOW_MS < closed_at
    encoder = _Encoder(events, positive)
    masks = (positive, is_impression & closed)
    counts = {}
    for name, mask in zip(job.EXAMPLES, masks, strict=True):
        for index, split_name in enumerate(job.SPLITS):
            place = folder / name / f"Split-{split_name}"
            place.mkdir(parents=True)
            writer = tfe.RecordWriter(place / "data_tfrecord-00000-of-00001.gz")
            chosen = np.flatnonzero(mask & (split == index))
            counts[f"{name}/{split_name}"] = sum(
                writer.write(encoder.entries(chosen[first : first + _SLICE]))
                for first in range(0, len(chosen), _SLICE)
            )
            writer.close()
    return counts


def write_catalog(items: list[dict], folder: Path) -> None:
    """Writes a tf.Example for each item."""
    folder.mkdir(parents=True)
    writer = tfe.RecordWriter(folder / "items.tfrecord.gz")
    writer.write(_side_entries("item", item["item_id"], item) for item in items)
    writer.close()


def latest_items(events: Events, length: int) -> list[list[str]]:
    """Returns, for each of `events.users`, its latest clicked items, oldest first."""
    positive = np.array([k["positive"] for k in job.EVENT_TYPES.values()])[events.types]
    users = events.user_of[positive]
    items = events.item_of[positive]
    ends = np.searchsorted(users, np.arange(len(events.users)), side="right").tolist()
    begin, out = 0, []
    for end in ends:
        latest = items[max(begin, end - length) : end].tolist()
        out.append([events.items[item] for item in latest])
        begin = end
    return out


class _Encoder:
    def __init__(self, events: Events, positive: np.ndarray):
        self._events = events
        self._users = [
            _side_entries("user", user, events.user_features.get(user, {}))
            for user in events.users
        ]
        self._items = [
            _side_entries("item", item, events.item_features.get(item, {}))
            for item in events.items
        ]
        self._types = [tfe.text_entry("event_type", name) for name in job.EVENT_TYPES]
        self._outcomes = [
            tfe.float_entry("label", kind["label"])
            + tfe.float_entry("reward", kind["reward"])
            for kind in job.EVENT_TYPES.values()
        ]
        most = int(events.positions.max(initial=-1))
        self._places = [tfe.int_entry("position", n) for n in range(most + 1)]
        self._places.append(b"")  # at -1
        self._id_heads = tfe.Heads(
            lambda value: tfe.bytes_entry("event_id", tfe.delimited(b"\x0a", value))
        )
        self._request_heads = tfe.Heads(
            lambda value: tfe.bytes_entry("request_id", tfe.delimited(b"\x0a", value))
        )
        self._history_heads = tfe.Heads(
            lambda values: tfe.bytes_entry("history_item_ids", values)
        )
        # All clicked items one after the other: a history is a slice of them.
        values = [tfe.bytes_value(item) for item in events.items]
        clicked = events.item_of[positive]
        self._history = b"".join([values[item] for item in clicked.tolist()])
        sizes = np.array([len(value) for value in values], np.int64)[clicked]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        begin, end = _history_spans(events, positive)
        self._begin, self._end = offsets[begin], offsets[end]

    def entries(self, rows: np.ndarray) -> Iterator[bytes]:
        """Yields the concatenated entries of each of some rows."""
        events, history, ids = self._events, self._history, self._events.event_ids
        users, items, types = self._users, self._items, self._types
        outcomes, places = self._outcomes, self._places
        id_heads, history_heads = self._id_heads, self._history_heads
        requests, request_heads = events.request_ids, self._request_heads
        moments, size = tfe.varints(events.timestamps[rows])
        moment_head = tfe.Heads(
            lambda v: tfe.int_entry("timestamp", 1 << 7 * len(v) - 7)
        )
        chances = events.propensities[rows].astype("<f4").tobytes()
        no_chance = np.isnan(events.propensities[rows]).tolist()
        chance_head = tfe.float_entry("propensity", 0.0)[:-4]
        moment_head = moment_head[size]
        for at, (row, user, item, kind, outcome, first, last, place) in enumerate(
            zip(
                rows.tolist(),
                events.user_of[rows].tolist(),
                events.item_of[rows].tolist(),
                events.types[rows].tolist(),
                events.outcomes[rows].tolist(),
                self._begin[rows].tolist(),
                self._end[rows].tolist(),
                events.positions[rows].tolist(),
                strict=True,
            )
        ):
            name = ids[row].encode()
            request = (requests[row] or "").encode()
            chance = (
                b"" if no_chance[at] else chance_head + chances[4 * at : 4 * at + 4]
            )
            yield (
                id_heads[len(name)]
                + name
                + moment_head
                + moments[size * at : size * at + size]
                + users[user]
                + items[item]
                + types[kind]
                + outcomes[outcome]
                + history_heads[last - first]
                + history[first:last]
                + places[place]
                + chance
                + (request_heads[len(request)] + request if request else b"")
            )


def _history_spans(
    events: Events, positive: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each row's history lies among the positive rows."""
    users, moments = events.user_of, events.timestamps
    before = np.cumsum(positive) - positive
    first = np.arange(len(users))
    new_user = np.ones(len(users), bool)
    new_user[1:] = users[1:] != users[:-1]
    new_moment = new_user.copy()
    new_moment[1:] |= moments[1:] != moments[:-1]
    of_user = np.maximum.accumulate(np.where(new_user, first, 0))
    of_moment = np.maximum.accumulate(np.where(new_moment, first, 0))
    end = before[of_moment]
    return np.maximum(before[of_user], end - job.HISTORY_LENGTH), end


_ENTRIES = {
    "categorical": tfe.text_entry,
    "multi_categorical": tfe.list_entry,
    "numeric": tfe.float_entry,
}


def _side_entries(side: str, name: str, values: dict) -> bytes:
    entries = tfe.text_entry(f"{side}_id", name)
    for feature, kind in job.FEATURES[side].items():
        entries += _ENTRIES[kind](f"{side}_{feature}", values.get(feature))
    return entries
