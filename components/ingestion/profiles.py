"""What serving knows of each user as of the end of the log."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.shard import ShardEvents
from schemas.events import profiles_schema, users_schema
from schemas.features import (
    HISTORY,
    MAX_SEEN,
    SEEN,
    USER_ID,
    FeatureCatalog,
    UserStatistic,
)
from schemas.history import smoothed_mean


def user_profiles(
    events: ShardEvents, users: pa.Table, catalog: FeatureCatalog
) -> pa.Table:
    """Returns the profiles as of a request made when the log was closed.

    Args:
        events: of some users.
        users: their rows of the users table.
        catalog: the declared features.

    Returns:
        `profiles_schema(catalog)`, for each user with an event or a row in the users
        table, by user_id.
    """
    schema = profiles_schema(catalog)
    seen = pa.table({USER_ID: events.user_ids})
    known = users.select(users_schema(catalog).names)
    is_known = pc.is_in(seen[USER_ID], value_set=known[USER_ID])
    joined = pa.concat_tables(
        [known, seen.filter(pc.invert(is_known))], promote_options="default"
    ).combine_chunks()
    at = pc.index_in(joined[USER_ID], value_set=events.user_ids)
    row = pc.fill_null(at, -1).to_numpy().astype(np.int64)
    num_users = len(events.user_ids)
    chosen = events.by_user[events.positive[events.by_user]]
    items = events.item_ids.take(pa.array(events.item_of[chosen]))
    counts = np.bincount(events.user_of[chosen], minlength=num_users)
    for name, length in ((HISTORY, catalog.history_length), (SEEN, MAX_SEEN)):
        joined = joined.append_column(name, _latest_items(items, counts, row, length))
    known_label = events.has_row
    of = events.user_of[known_label]
    totals = np.bincount(of, weights=events.label[known_label], minlength=num_users)
    numbers = np.bincount(of, minlength=num_users)
    for statistic in catalog.user_statistics:
        # A last entry stands for the users without events, whose row is -1.
        values = _AT_END[statistic](np.append(totals, 0.0), np.append(numbers, 0))
        joined = joined.append_column(statistic.value, pa.array(values[row]))
    return joined.select(schema.names).cast(schema).sort_by(USER_ID)


_AT_END = {UserStatistic.MEAN_LABEL: smoothed_mean}


def _latest_items(
    items: pa.Array, counts: np.ndarray, row: np.ndarray, length: int
) -> pa.ListArray:
    """Returns, for each of some users, the last `length` of its items.

    Args:
        items: those of user 0, then those of user 1, and so on.
        counts: [users] number of items of each.
        row: [n] which user; -1 for one without items.
        length: the most items to take.
    """
    ends = np.append(np.cumsum(counts), 0)
    taken = np.minimum(np.append(counts, 0), length)[row]
    begin = ends[row] - taken
    offsets = np.concatenate([[0], np.cumsum(taken)])
    flat = np.repeat(begin - offsets[:-1], taken) + np.arange(offsets[-1])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), items.take(pa.array(flat))
    )
