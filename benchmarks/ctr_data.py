"""Two public logs as tables of labelled rows: the same columns for every contestant.

Rows stand in order of time. The last 20 % are the test, the last 10 % of what is before are
for validation, cut by Tandem's own rule: rows that share a moment are never parted. Nothing
in a row is later than the row, and no column names the session. NumPy alone reads a table, so
that peers in environments of their own can.

A column is named as Tandem names features: `user_`, `item_` or `context_` says whose it is.
What Tandem's ingestion adds to a log is in the table too, for whoever can read it: the user's
history, and the mean label of the user's earlier rows.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.retrieval_data import TEST_SHARE, VALIDATION_SHARE, first_of_latest

HISTORY_LENGTH = 50
LIKED = 4.0  # the least rating that is a positive label
USER, ITEM = "user_id", "item_id"


@dataclasses.dataclass(frozen=True)
class CtrTable:
    """Labelled rows; N of them.

    Attributes:
        labels: [N] float32, 0 or 1.
        categories: [N, C] int32, the number of each value, from 1; 0 means missing. The
            number says nothing, unless a column has an order: then it has the same.
        category_names: [C]; `user_id` and `item_id` are among them.
        numbers: [N, M] float32, finite.
        number_names: [M].
        lists: [N, L] int32 of one list column, 0 pads behind; L is 0 where there is none.
        list_name: its name.
        history: [N, T] int32 of `item_id`, what the user chose strictly before the row,
            oldest first, 0 pads before.
        num_fit: rows before validation.
        num_train: rows before the test.
    """

    labels: np.ndarray
    categories: np.ndarray
    category_names: np.ndarray
    numbers: np.ndarray
    number_names: np.ndarray
    lists: np.ndarray
    list_name: np.ndarray
    history: np.ndarray
    num_fit: np.ndarray
    num_train: np.ndarray

    def category(self, name: str) -> np.ndarray:
        """Returns [N] of the column."""
        return self.categories[:, self.category_names.tolist().index(name)]

    @property
    def fit(self) -> slice:
        return slice(0, int(self.num_fit))

    @property
    def validation(self) -> slice:
        return slice(int(self.num_fit), int(self.num_train))

    @property
    def test(self) -> slice:
        return slice(int(self.num_train), len(self.labels))

    def known(self) -> "CtrTable":
        """Returns the table with values that no row of `fit` has as one: "unknown".

        The numbers are then dense: 0 missing, 1 unknown, and from 2 on what is known, in
        the order that it had.
        """
        categories = np.zeros_like(self.categories)
        item = self.category_names.tolist().index(ITEM)
        for place in range(categories.shape[1]):
            met = self.categories[self.fit, place]
            categories[:, place] = _renumbered(self.categories[:, place], met)
        return dataclasses.replace(
            self,
            categories=categories,
            lists=_renumbered(self.lists, self.lists[self.fit]),
            history=_renumbered(self.history, self.categories[self.fit, item]),
        )

    def save(self, path: Path) -> None:
        """Writes what `load` reads."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "CtrTable":
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})


def _renumbered(values: np.ndarray, met: np.ndarray) -> np.ndarray:
    known = np.unique(met[met > 0])
    if not len(known):
        return np.minimum(values, 1)
    place = np.minimum(np.searchsorted(known, values), len(known) - 1)
    numbers = np.where(known[place] == values, place + 2, 1)
    return np.where(values > 0, numbers, 0).astype(np.int32)


def trivago_table(directory: Path) -> CtrTable:
    """Reads hotels shown, one row each, and whether they were clicked.

    Args:
        directory: holds `impressions.parquet`.
    """
    import pyarrow.parquet as pq

    columns = pq.read_table(directory / "impressions.parquet").to_pydict()
    log = {name: np.array(values) for name, values in columns.items()}
    filters = ["" if value is None else value for value in columns["current_filters"]]
    return _table(
        timestamps=log["timestamp"],
        labels=log["click"] == 1,
        chosen=log["click"] == 1,
        categories={
            USER: log["user_id"],
            ITEM: log["item"],
            "user_platform": log["platform"],
            "context_city": log["city"],
            "context_device": log["device"],
            "context_filters": np.array(filters),
            "context_position": log["position"],
            "context_seen_before": log["seen_before"],
        },
        numbers={
            "item_log_price": np.log(log["price"]),
            "context_log_step": np.log(log["step"]),
        },
    )


def movielens_table(directory: Path) -> CtrTable:
    """Reads ratings, and whether they are 4 or more; all of them are a user's choices.

    Args:
        directory: of the canonical tables.
    """
    import pyarrow.parquet as pq

    events, users, items = (
        {
            name: np.array(values, object if name == "genres" else None)
            for name, values in table.to_pydict().items()
        }
        for table in (
            pq.read_table(directory / f"{name}.parquet")
            for name in ("events", "users", "items")
        )
    )
    user = _places(users[USER], events[USER])
    item = _places(items[ITEM], events[ITEM])
    known_genres = sorted({genre for genres in items["genres"] for genre in genres})
    width = max(len(genres) for genres in items["genres"])
    lists = np.zeros([len(items[ITEM]), width], np.int32)
    for row, genres in zip(lists, items["genres"], strict=True):
        row[: len(genres)] = 1 + np.searchsorted(known_genres, genres)
    years = items["release_year"].astype(np.float64)
    years = np.where(np.isfinite(years), years, np.nanmean(years))
    return _table(
        timestamps=events["timestamp"],
        labels=events["value"] >= LIKED,
        chosen=np.ones(len(user), bool),
        categories={
            USER: events[USER],
            ITEM: events[ITEM],
            "user_gender": users["gender"][user],
            "user_age": users["age"][user],
            "user_occupation": users["occupation"][user],
        },
        numbers={"item_release_year": years[item]},
        list_name="item_genres",
        lists=lists[item],
    )


def _places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    order = np.argsort(ids)
    return order[np.searchsorted(ids, wanted, sorter=order)]


def _table(
    timestamps: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    categories: dict[str, np.ndarray],
    numbers: dict[str, np.ndarray],
    list_name: str = "",
    lists: np.ndarray | None = None,
) -> CtrTable:
    """Numbers the values and puts all in order of time.

    Args:
        timestamps: [N].
        labels: [N] bool.
        chosen: [N] bool, the rows that enter histories.
        categories: [N] by name; "" is missing.
        numbers: [N] by name.
        list_name: of `lists`.
        lists: [N, L] as of `CtrTable`.
    """
    order = np.argsort(timestamps, kind="stable")
    timestamps = timestamps[order]
    numbered: dict[str, Any] = {}
    for name, values in categories.items():
        distinct, place = np.unique(values[order], return_inverse=True)
        numbered[name] = place + (0 if distinct[0] == "" else 1)
    num_train = first_of_latest(timestamps, TEST_SHARE)
    if lists is None:
        lists = np.zeros([len(order), 0], np.int32)
    history, mean_label = past(
        numbered[USER], timestamps, numbered[ITEM], labels[order], chosen[order]
    )
    columns = {name: values[order] for name, values in numbers.items()}
    columns["user_mean_label"] = mean_label
    return CtrTable(
        labels=labels[order].astype(np.float32),
        categories=np.stack(list(numbered.values()), axis=1).astype(np.int32),
        category_names=np.array(list(numbered)),
        numbers=np.stack(list(columns.values()), axis=1).astype(np.float32),
        number_names=np.array(list(columns)),
        lists=lists[order],
        list_name=np.array(list_name),
        history=history,
        num_fit=np.array(first_of_latest(timestamps[:num_train], VALIDATION_SHARE)),
        num_train=np.array(num_train),
    )


def past(
    users: np.ndarray,
    timestamps: np.ndarray,
    items: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what Tandem's ingestion tells of the time strictly before each row.

    Args:
        users: [N] int.
        timestamps: [N] int, never falling.
        items: [N] int > 0.
        labels: [N] bool.
        chosen: [N] bool, the rows that enter histories.

    Returns:
        history: [N, T] int32 of items, oldest first, 0 pads before.
        mean_label: [N] of the user's earlier rows.
    """
    from schemas.history import history_spans, mean_labels

    by_user = np.argsort(users, kind="stable")
    user, time, picked = users[by_user], timestamps[by_user], chosen[by_user]
    is_labelled = np.ones(len(user), bool)
    means = np.empty(len(user))
    means[by_user] = mean_labels(user, time, labels[by_user], is_labelled, time)
    start, end = history_spans(user, time, picked, HISTORY_LENGTH)
    chosen_items = np.append(items[by_user][picked], 0)
    history = np.zeros([len(user), HISTORY_LENGTH], np.int32)
    for place in range(HISTORY_LENGTH):
        row = end - HISTORY_LENGTH + place
        history[by_user, place] = np.where(
            row >= start, chosen_items[np.maximum(row, 0)], 0
        )
    return history, means
