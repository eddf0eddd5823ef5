"""From the events of some users to their training rows."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion import encoding
from components.ingestion.facts import PartialFacts, partial_facts
from components.ingestion.negatives import has_choice, sampled_items
from components.ingestion.settings import DataSettings
from components.ingestion.shard import ShardEvents, of_types
from components.ingestion.splits import SplitCuts, split_of
from schemas.events import SPLITS
from schemas.features import (
    EVENT_ID,
    EVENT_TYPE,
    HISTORY,
    ITEM_ID,
    LABEL,
    POSITION,
    PROPENSITY,
    REQUEST_ID,
    REWARD,
    SESSION_START,
    TIMESTAMP,
    USER_ID,
    VALUE,
    FeatureCatalog,
    Side,
    UserStatistic,
)
from schemas.history import history_spans, mean_labels

CHUNK_ROWS = 20_000
_CHUNK_HISTORY_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class EncodedChunk:
    """Consecutive rows of one split."""

    split: str
    examples: pa.Array  # [n] binary
    is_interaction: np.ndarray  # [n] bool: retrieval learns from the row
    is_impression: np.ndarray  # [n] bool: the ranker learns from the row
    facts: PartialFacts | None  # of the impressions, None where there are none


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Which rows are made, in the order in which they are written."""

    event: np.ndarray  # [R] int64, the event that each is made of
    negative: np.ndarray  # [R] int64, which drawn negative it is, from 1; 0 for none
    item: np.ndarray  # [R] int64, into the pool of items

    def part(self, begin: int, end: int) -> "_Rows":
        return _Rows(
            self.event[begin:end], self.negative[begin:end], self.item[begin:end]
        )


class ShardRows:
    """Every row that comes from the events of a set of users.

    Attributes:
        num_unknown_items: events whose item is not in the items table.
        num_unknown_users: events whose user is not in the users table.
    """

    def __init__(
        self,
        events: ShardEvents,
        users: pa.Table,
        items: pa.Table,
        settings: DataSettings,
        catalog: FeatureCatalog,
    ):
        """Works out histories, joins and negatives.

        Args:
            events: of the users.
            users: rows of the users table, one for each user at most.
            items: the whole catalogue, one row an item.
            settings: what event types mean.
            catalog: the declared features.
        """
        self._events = events
        self._catalog = catalog
        known_items = pc.index_in(events.item_ids, value_set=items[ITEM_ID])
        known_users = pc.index_in(events.user_ids, value_set=users[USER_ID])
        self.num_unknown_items = _num_unknown(known_items, events.item_of)
        self.num_unknown_users = _num_unknown(known_users, events.user_of)
        self._rows = _rows_of(events, settings, known_items, items.num_rows)
        pool = events.item_ids
        if np.any(self._rows.negative):
            # Negatives come from the whole catalogue, which follows the items met.
            pool = pa.concat_arrays([pool, items[ITEM_ID].combine_chunks()])
            everything = pa.array(np.arange(items.num_rows), known_items.type)
            known_items = pa.concat_arrays([known_items, everything])
        self._item_pool = encoding.concat(
            encoding.text_entries(ITEM_ID, pool),
            encoding.feature_entries(
                items.take(known_items), catalog.columns(Side.ITEM)
            ),
        )
        self._user_pool = encoding.concat(
            encoding.text_entries(USER_ID, events.user_ids),
            encoding.feature_entries(
                users.take(known_users), catalog.declared_columns(Side.USER)
            ),
        )
        self._type_pool = encoding.text_entries(
            EVENT_TYPE, pa.array(list(settings.event_types), pa.string())
        )
        self._set_histories()
        self._statistics = {
            f"{Side.USER.value}_{statistic.value}": _STATISTICS[statistic](events)
            for statistic in catalog.user_statistics
        }

    def chunks(
        self, cuts: SplitCuts, chunk_rows: int = CHUNK_ROWS
    ) -> Iterator[EncodedChunk]:
        """Yields the rows by (timestamp, event_id), which is also that of the splits.

        An event's negatives follow it.
        """
        events = self._events
        sizes = self._history_end - self._history_begin
        mean_size = max(1, int(sizes.mean())) if len(sizes) else 1
        chunk_rows = max(1, min(chunk_rows, _CHUNK_HISTORY_BYTES // mean_size))
        splits = split_of(events.timestamps[self._rows.event], cuts)
        for index, split in enumerate(SPLITS):
            begin, end = np.searchsorted(splits, [index, index + 1]).tolist()
            for first in range(begin, end, chunk_rows):
                rows = self._rows.part(first, min(first + chunk_rows, end))
                is_negative = rows.negative > 0
                is_impression = is_negative | events.has_row[rows.event]
                yield EncodedChunk(
                    split,
                    self._encoded(rows),
                    events.is_interaction[rows.event] & ~is_negative,
                    is_impression,
                    self._facts(rows, is_impression),
                )

    def num_events(self, cuts: SplitCuts) -> dict[str, int]:
        """Returns the number of events in each split, whether they give rows or not."""
        splits = split_of(self._events.timestamps, cuts)
        counts = np.bincount(splits, minlength=len(SPLITS)).tolist()
        return dict(zip(SPLITS, counts, strict=True))

    def _set_histories(self) -> None:
        """Finds where each event's history lies in one string of all of them."""
        events = self._events
        by_user = events.by_user
        positive = events.positive[by_user]
        start, end = history_spans(
            events.user_of[by_user],
            events.timestamps[by_user],
            positive,
            self._catalog.history_length,
        )
        # All positive items, encoded and joined: a history is a slice.
        values = encoding.bytes_values(events.item_ids).take(
            pa.array(events.item_of[by_user[positive]])
        )
        offsets = encoding.offsets_of(values).astype(np.int64)
        self._history = encoding.data_of(values).to_pybytes() if len(values) else b""
        self._history_begin = np.empty(len(by_user), np.int64)
        self._history_end = np.empty(len(by_user), np.int64)
        self._history_begin[by_user] = offsets[start] - offsets[0]
        self._history_end[by_user] = offsets[end] - offsets[0]

    def _encoded(self, rows: _Rows) -> pa.Array:
        """Returns the tf.Example of each row."""
        events = self._events
        at = rows.event
        table = events.table.take(pa.array(at)).combine_chunks()
        is_negative = rows.negative > 0
        history = encoding.slices(
            self._history, self._history_begin[at], self._history_end[at]
        )
        columns = [
            encoding.text_entries(EVENT_ID, _event_ids(table, rows.negative)),
            encoding.int_entries(TIMESTAMP, table[TIMESTAMP].combine_chunks()),
            self._user_pool.take(pa.array(events.user_of[at])),
            self._item_pool.take(pa.array(rows.item)),
            self._type_pool.take(pa.array(events.types[at])),
            encoding.float_entries(
                LABEL, pa.array(np.where(is_negative, 0.0, events.label[at]))
            ),
            encoding.float_entries(
                REWARD, pa.array(np.where(is_negative, 0.0, events.reward[at]))
            ),
            encoding.bytes_entries(HISTORY, history),
            encoding.feature_entries(table, self._catalog.columns(Side.CONTEXT)),
        ]
        for key, values in self._statistics.items():
            columns.append(encoding.float_entries(key, pa.array(values[at])))
        if events.session_start is not None:
            starts = pa.array(events.session_start[at])
            columns.append(encoding.int_entries(SESSION_START, starts))
        for name, array, entries in (
            (
                VALUE,
                pa.array(events.value[at], from_pandas=True),
                encoding.float_entries,
            ),
            (POSITION, table[POSITION].combine_chunks(), encoding.int_entries),
            (PROPENSITY, table[PROPENSITY].combine_chunks(), encoding.float_entries),
            (REQUEST_ID, table[REQUEST_ID].combine_chunks(), encoding.text_entries),
        ):
            if array.null_count < len(array):
                nothing = pa.scalar(None, array.type)
                array = pc.if_else(pa.array(is_negative), nothing, array)
                columns.append(entries(name, array))
        return encoding.examples(encoding.concat(*columns))

    def _facts(self, rows: _Rows, is_impression: np.ndarray) -> PartialFacts | None:
        if not is_impression.any():
            return None
        at = rows.event[is_impression]
        is_negative = rows.negative[is_impression] > 0
        propensity = self._events.table[PROPENSITY].take(pa.array(at))
        return partial_facts(
            np.where(is_negative, 0.0, self._events.label[at]),
            np.where(is_negative, np.nan, propensity.to_numpy()),
            int(np.count_nonzero(is_negative)),
        )


def _rows_of(
    events: ShardEvents, settings: DataSettings, known_items: pa.Array, num_items: int
) -> _Rows:
    """Returns the rows to make: of each event that has one, then its negatives.

    Args:
        events: of the shard.
        settings: what event types mean.
        known_items: of each item of the shard, its row in the catalogue or null.
        num_items: of the catalogue.
    """
    real = np.flatnonzero(events.is_interaction | events.has_row)
    draws = of_types(settings, lambda kind: kind.sampled_negatives, np.int64)
    numbers = np.where(events.has_row, draws[events.types], 0)
    drawing = np.flatnonzero(numbers)
    if len(drawing) == 0:
        return _Rows(real, np.zeros(len(real), np.int64), events.item_of[real])
    in_catalog = pc.fill_null(known_items, -1).to_numpy().astype(np.int64)
    offsets, members = _company(events, drawing)
    excluded = in_catalog[events.item_of[members]]
    # One basket that holds the whole catalogue must not stop a day's ingestion.
    numbers[drawing[~has_choice(offsets, excluded, num_items)]] = 0
    drawn = sampled_items(
        events.table[EVENT_ID].combine_chunks().take(pa.array(drawing)),
        numbers[drawing],
        offsets,
        excluded,
        num_items,
    )
    event = np.repeat(drawing, numbers[drawing])
    first = np.cumsum(numbers[drawing]) - numbers[drawing]
    negative = np.arange(len(event)) - np.repeat(first, numbers[drawing]) + 1
    all_events = np.concatenate([real, event])
    order = np.argsort(all_events, kind="stable")
    return _Rows(
        all_events[order],
        np.concatenate([np.zeros(len(real), np.int64), negative])[order],
        np.concatenate([events.item_of[real], len(events.item_ids) + drawn])[order],
    )


def _company(events: ShardEvents, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the events of each row's user that share its timestamp or its request.

    Args:
        events: of the shard.
        rows: [R] some of them.

    Returns:
        offsets: [R + 1] into `members`.
        members: events, the row's own and repetitions among them.
    """
    everything = np.arange(len(events.timestamps))
    with_request = np.flatnonzero(events.requests >= 0)
    members, owners = [], []
    for codes, chosen in (
        (np.unique(events.timestamps, return_inverse=True)[1], everything),
        (events.requests, with_request),
    ):
        keys = events.user_of * (codes.max(initial=0) + 1) + codes
        order = chosen[np.argsort(keys[chosen], kind="stable")]
        asking = np.flatnonzero(codes[rows] >= 0)
        begin = np.searchsorted(keys[order], keys[rows[asking]], side="left")
        end = np.searchsorted(keys[order], keys[rows[asking]], side="right")
        sizes = end - begin
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        at = np.repeat(begin, sizes) + np.arange(sizes.sum()) - first
        members.append(order[at])
        owners.append(np.repeat(asking, sizes))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    offsets = np.searchsorted(owner[order], np.arange(len(rows) + 1))
    return offsets, np.concatenate(members)[order]


def _event_ids(table: pa.Table, negative: np.ndarray) -> pa.Array:
    """Returns each row's id, `<id>~<j>` for the j-th negative of an event."""
    ids = table[EVENT_ID].combine_chunks()
    if not negative.any():
        return ids
    numbered = pc.binary_join_element_wise(
        ids, pa.array(negative).cast(pa.string()), "~"
    )
    return pc.if_else(pa.array(negative > 0), numbered, ids)


def _mean_label(events: ShardEvents) -> np.ndarray:
    """Returns [N] float64, see `schemas.history.mean_labels`."""
    by_user = events.by_user
    out = np.empty(len(by_user))
    out[by_user] = mean_labels(
        events.user_of[by_user],
        events.timestamps[by_user],
        events.label[by_user],
        events.is_labelled[by_user],
        events.known_at[by_user],
    )
    return out


_STATISTICS = {UserStatistic.MEAN_LABEL: _mean_label}  # point in time, one per event


def item_examples(items: pa.Table, catalog: FeatureCatalog) -> pa.Array:
    """Returns a tf.Example of raw features for each row of the catalogue."""
    return encoding.examples(
        encoding.concat(
            encoding.text_entries(ITEM_ID, items[ITEM_ID].combine_chunks()),
            encoding.feature_entries(items, catalog.columns(Side.ITEM)),
        )
    )


def _num_unknown(known: pa.Array, codes: np.ndarray) -> int:
    return int(
        np.count_nonzero(pc.is_null(known).to_numpy(zero_copy_only=False)[codes])
    )
