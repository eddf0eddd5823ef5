"""From the accepted events of some users to their training rows and profiles."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion import encoding
from components.ingestion.settings import DataSettings
from components.ingestion.splits import SplitCuts, split_of
from schemas.events import SPLITS, profiles_schema, users_schema
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    HISTORY,
    ITEM_ID,
    LABEL,
    MAX_SEEN,
    POSITION,
    PROPENSITY,
    REWARD,
    SEEN,
    TIMESTAMP,
    USER_ID,
    VALUE,
    FeatureCatalog,
    Side,
    UserStatistic,
)
from schemas.history import history_spans, mean_labels, smoothed_mean

CHUNK_ROWS = 20_000


@dataclasses.dataclass(frozen=True)
class EncodedChunk:
    """Consecutive rows of one split."""

    split: str
    examples: list[bytes]
    is_interaction: np.ndarray  # [n] bool: retrieval learns from the row
    is_impression: np.ndarray  # [n] bool: the ranker learns from the row


class ShardRows:
    """Every row that comes from the accepted events of a set of users.

    Attributes:
        events: the events in the order of their rows: by timestamp, then event_id.
        profiles: `profiles_schema(catalog)`, for each user with an event or a row in
            the users table, by user_id.
        num_users: users with an event.
        num_unknown_items: events whose item is not in the items table.
        num_unknown_users: events whose user is not in the users table.
    """

    def __init__(
        self,
        events: pa.Table,
        users: pa.Table,
        items: pa.Table,
        settings: DataSettings,
        catalog: FeatureCatalog,
    ):
        """Works out histories and joins.

        Args:
            events: all accepted events of the users, in any order.
            users: rows of the users table, one for each user at most; these users and
                no others.
            items: the whole catalogue, one row an item.
            settings: what event types mean.
            catalog: the declared features.
        """
        self._settings = settings
        self._catalog = catalog
        by_user = [(name, "ascending") for name in (USER_ID, TIMESTAMP, EVENT_ID)]
        events = events.take(pc.sort_indices(events, sort_keys=by_user))
        user_ids = events[USER_ID].combine_chunks().dictionary_encode()
        item_ids = events[ITEM_ID].combine_chunks().dictionary_encode()
        user_of = user_ids.indices.to_numpy()
        item_of = item_ids.indices.to_numpy()
        positive = self._by_type(events, lambda kind: kind.positive, bool)
        start, end = history_spans(
            user_of,
            events[TIMESTAMP].to_numpy(),
            positive,
            catalog.history_length,
        )
        # All positive items of the shard, encoded and joined: a history is a slice.
        values = [
            encoding.bytes_value(item)
            for item in item_ids.dictionary.cast(pa.binary()).to_pylist()
        ]
        sizes = np.array([len(value) for value in values], np.int64)
        positive_items = item_of[positive]
        self._history = b"".join([values[item] for item in positive_items.tolist()])
        offsets = np.concatenate([[0], np.cumsum(sizes[positive_items])])

        known_items = pc.index_in(item_ids.dictionary, value_set=items[ITEM_ID])
        known_users = pc.index_in(user_ids.dictionary, value_set=users[USER_ID])
        self.num_users = len(user_ids.dictionary)
        self.num_unknown_items = _num_unknown(known_items, item_of)
        self.num_unknown_users = _num_unknown(known_users, user_of)
        self._item_entries = encoding.feature_entries(
            items.take(known_items), catalog.features(Side.ITEM)
        )
        self._user_entries = encoding.feature_entries(
            users.take(known_users),
            [
                (key, feature)
                for key, feature in catalog.features(Side.USER)
                if feature in catalog.declared(Side.USER)
            ],
        )
        is_labelled = self._by_type(events, lambda kind: kind.is_labelled, bool)
        labels = self._labels(events)
        moments = events[TIMESTAMP].to_numpy()
        self.profiles = self._profiles(
            users,
            user_ids,
            user_of,
            item_ids.dictionary.take(positive_items),
            positive,
            np.where(is_labelled, labels, np.nan),
        )
        in_time = pc.sort_indices(events, sort_keys=by_user[1:])
        order = in_time.to_numpy()
        self.events = events.take(in_time)
        self._user_of, self._item_of = user_of[order], item_of[order]
        self._positive = positive[order]
        self._history_begin = offsets[start[order]]
        self._history_end = offsets[end[order]]
        self._statistics = {
            f"{Side.USER.value}_{statistic.value}": _AT_EVENTS[statistic](
                user_of, moments, labels, is_labelled
            )[order]
            for statistic in catalog.user_statistics
        }

    def chunks(
        self, cuts: SplitCuts, chunk_rows: int = CHUNK_ROWS
    ) -> Iterator[EncodedChunk]:
        """Yields the rows in the order of `events`, which is also that of the splits."""
        splits = split_of(self.events[TIMESTAMP].to_numpy(), cuts)
        is_impression = self._by_type(self.events, lambda kind: kind.is_labelled, bool)
        for index, split in enumerate(SPLITS):
            begin, end = np.searchsorted(splits, [index, index + 1])
            for first in range(begin, end, chunk_rows):
                rows = slice(first, min(first + chunk_rows, end))
                yield EncodedChunk(
                    split,
                    self._encoded(rows),
                    self._positive[rows],
                    is_impression[rows],
                )

    def _encoded(self, rows: slice) -> list[bytes]:
        events = self.events.slice(rows.start, rows.stop - rows.start).combine_chunks()
        history = self._history
        columns = [
            encoding.text_entries(EVENT_ID, _array(events, EVENT_ID)),
            encoding.int_entries(TIMESTAMP, _array(events, TIMESTAMP)),
            encoding.text_entries(USER_ID, _array(events, USER_ID)),
            encoding.text_entries(ITEM_ID, _array(events, ITEM_ID)),
            encoding.text_entries(EVENT_TYPE, _array(events, EVENT_TYPE)),
            encoding.float_entries(LABEL, pa.array(self._labels(events))),
            encoding.float_entries(
                REWARD,
                pa.array(self._by_type(events, lambda kind: kind.reward, np.float64)),
            ),
            [
                encoding.bytes_entry(HISTORY, history[begin:end])
                for begin, end in zip(
                    self._history_begin[rows].tolist(),
                    self._history_end[rows].tolist(),
                    strict=True,
                )
            ],
            [self._user_entries[user] for user in self._user_of[rows].tolist()],
            [self._item_entries[item] for item in self._item_of[rows].tolist()],
            encoding.feature_entries(events, self._catalog.features(Side.CONTEXT)),
        ]
        for key, values in self._statistics.items():
            columns.append(encoding.float_entries(key, pa.array(values[rows])))
        for name, entries in (
            (VALUE, encoding.float_entries),
            (POSITION, encoding.int_entries),
            (PROPENSITY, encoding.float_entries),
        ):
            if events[name].null_count < events.num_rows:
                columns.append(entries(name, _array(events, name)))
        return [encoding.example(b"".join(row)) for row in zip(*columns, strict=True)]

    def _labels(self, events: pa.Table) -> np.ndarray:
        """Returns each row's label.

        A type without a label rule is in `interactions` only; its rows carry 1, as
        interactions, so that every row of every service has the same fields.
        """
        fixed = self._by_type(
            events, lambda kind: 1.0 if kind.label is None else kind.label, np.float64
        )
        at_least = self._by_type(
            events,
            lambda kind: (
                kind.label_from_value.at_least if kind.label_from_value else np.nan
            ),
            np.float64,
        )
        values = np.asarray(events[VALUE].fill_null(np.nan), np.float64)
        return np.where(np.isnan(at_least), fixed, values >= at_least)

    def _by_type(self, events: pa.Table, get, dtype) -> np.ndarray:
        """Returns `get(event type)` for each row."""
        types = events[EVENT_TYPE].combine_chunks().dictionary_encode()
        known = self._settings.event_types
        values = [get(known[name]) for name in types.dictionary.to_pylist()]
        return np.array(values, dtype)[types.indices.to_numpy()]

    def _profiles(
        self,
        users: pa.Table,
        user_ids: pa.DictionaryArray,
        user_of: np.ndarray,
        positive_items: pa.Array,
        positive: np.ndarray,
        labels: np.ndarray,
    ) -> pa.Table:
        """Returns the profiles as of a request made after the last event.

        Args:
            users: the users table.
            user_ids: the users with an event.
            user_of: [N] which of them each event is of.
            positive_items: items of the positive events, in the events' order.
            positive: [N] bool.
            labels: [N] float, NaN where an event has no label.
        """
        schema = profiles_schema(self._catalog)
        seen = pa.table({USER_ID: user_ids.dictionary})
        known = users.select(users_schema(self._catalog).names)
        joined = pa.concat_tables(
            [
                known,
                seen.filter(
                    pc.invert(pc.is_in(seen[USER_ID], value_set=known[USER_ID]))
                ),
            ],
            promote_options="default",
        ).combine_chunks()
        at = pc.index_in(joined[USER_ID], value_set=user_ids.dictionary)
        row = pc.fill_null(at, -1).to_numpy().astype(np.int64)
        num_users = len(user_ids.dictionary)
        counts = np.bincount(user_of[positive], minlength=num_users)
        for name, length in (
            (HISTORY, self._catalog.history_length),
            (SEEN, MAX_SEEN),
        ):
            latest = _latest_items(positive_items, counts, row, length)
            joined = joined.append_column(name, latest)
        has_label = ~np.isnan(labels)
        totals = np.bincount(
            user_of[has_label], weights=labels[has_label], minlength=num_users
        )
        numbers = np.bincount(user_of[has_label], minlength=num_users)
        for statistic in self._catalog.user_statistics:
            # A last entry stands for the users without events, whose row is -1.
            values = _AT_END[statistic](np.append(totals, 0.0), np.append(numbers, 0))
            joined = joined.append_column(statistic.value, pa.array(values[row]))
        return joined.select(schema.names).cast(schema).sort_by(USER_ID)


_AT_EVENTS = {UserStatistic.MEAN_LABEL: mean_labels}  # point in time, one per event
_AT_END = {
    UserStatistic.MEAN_LABEL: smoothed_mean
}  # after the last event, one per user


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


def item_examples(items: pa.Table, catalog: FeatureCatalog) -> list[bytes]:
    """Returns a tf.Example of raw features for each row of the catalogue."""
    ids = encoding.text_entries(ITEM_ID, _array(items, ITEM_ID))
    features = encoding.feature_entries(items, catalog.features(Side.ITEM))
    return [encoding.example(a + b) for a, b in zip(ids, features, strict=True)]


def _array(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks()


def _num_unknown(known: pa.Array, codes: np.ndarray) -> int:
    return int(
        np.count_nonzero(pc.is_null(known).to_numpy(zero_copy_only=False)[codes])
    )
