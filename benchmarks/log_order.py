"""A MovieLens log in which no two events of a user share a moment.

Its timestamps count seconds, and two of three ratings share theirs with another of the same
user: a page of films was rated and sent. Which came first is not known, so Tandem takes none
of them for the others' past. Published comparisons do, in the order of the file; this makes
such a log, so that figures can be set beside theirs.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

EVENTS = "events.parquet"
TIMESTAMP = "timestamp"


def fetched_in_log_order(fetched: Path, folder: Path) -> Path:
    """Copies a fetched dataset, its events parted by `parted`.

    Args:
        fetched: the folder that `pipeline.datasets.fetch` made.
        folder: where the copy goes, under the same name; kept if it is there.

    Returns:
        The folder of the copy.
    """
    copy = folder / fetched.name
    if copy.exists():
        return copy
    partial = folder / f"{fetched.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(fetched, partial)
    events = pq.read_table(fetched / EVENTS)
    _, users = np.unique(events["user_id"].to_numpy(), return_inverse=True)
    timestamps = parted(users, events[TIMESTAMP].to_numpy())
    place = events.schema.get_field_index(TIMESTAMP)
    events = events.set_column(place, TIMESTAMP, pa.array(timestamps))
    pq.write_table(events, partial / EVENTS)
    partial.rename(copy)
    return copy


def parted(users: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """Returns [N] ms: a user's n-th event of a moment, in the log's order, n ms later.

    Args:
        users: [N] int.
        timestamps: [N] ms, whole seconds.

    Raises:
        ValueError: if a user has more than 1,000 events in a second.
    """
    order = np.lexsort((timestamps, users))  # stable: the log's order within a moment
    user, moment = users[order], timestamps[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (user[1:] != user[:-1]) | (moment[1:] != moment[:-1])
    place = np.arange(len(order))
    later = place - np.maximum.accumulate(np.where(is_first, place, 0))
    if len(later) and later.max() >= 1_000:
        raise ValueError(
            "a user should have at most 1,000 events in a second. "
            f"Received: {later.max() + 1}"
        )
    out = timestamps.copy()
    out[order] += later
    return out
