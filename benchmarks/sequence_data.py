"""Long real histories: rows of The Complete Journey, a year of a grocer's receipts.

The protocol, which `benchmarks.sequence_models` holds every model to:

* A row asks whether a household bought a product at a moment. Positives are purchases,
  drawn evenly from those of a split that have `min_history` earlier ones; beside each
  stands one negative of the same moment, drawn as often as it was bought in the train split
  among the products that are not in the basket. Products bought before may be negatives,
  and popularity alone tells nothing.
* Splits are by global time: the last 20 % of the purchases are the test, the last 10 % of
  those before the validation; purchases of one moment are never parted.
* A history holds the purchases strictly before the row's moment, so none of its own basket,
  oldest first, the newest `max_history` of them, whichever split they are of.
* Vocabularies are of the train split. Products and households that it lacks share hashed
  ids; a product's features are known all the same.

NumPy alone, so that every number can be checked by hand.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
ID_BUCKETS = 64
USER_FEATURES = ("age", "income", "household_size")
ITEM_FEATURES = (
    *("manufacturer_id", "department", "brand"),
    *("product_category", "product_type"),
)
_FIRST_KNOWN = 2  # of a feature: 0 is missing, 1 is what is hashed


@dataclasses.dataclass(frozen=True)
class Log:
    """Purchases, by household and within it by time.

    Attributes:
        users, items: int64 [N], from 0.
        timestamps: int64 [N], ms.
        user_features, item_features: by name, int64 [users] and [items]; 0 is missing.
        is_train: bool [N], is_validation: bool [N]; the others are the test's.
    """

    users: np.ndarray
    items: np.ndarray
    timestamps: np.ndarray
    user_features: dict[str, np.ndarray]
    item_features: dict[str, np.ndarray]
    is_train: np.ndarray
    is_validation: np.ndarray

    @property
    def popularity(self) -> np.ndarray:
        """Returns [items], how often each was bought in the train split."""
        return np.bincount(self.items[self.is_train], minlength=self.num_items)

    @property
    def num_items(self) -> int:
        return len(next(iter(self.item_features.values())))

    def ids(self, column: str) -> np.ndarray:
        """Returns the transformed id of each user, or of each item, by its number.

        Args:
            column: `users` or `items`.
        """
        numbers = getattr(self, column)
        features = self.user_features if column == "users" else self.item_features
        known = np.zeros(len(next(iter(features.values()))), bool)
        known[numbers[self.is_train]] = True
        hashed = 1 + np.arange(len(known)) % ID_BUCKETS
        return np.where(known, ID_BUCKETS + np.cumsum(known), hashed)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Labelled rows; a history is `items[begin:end]` of the log.

    Attributes:
        users, candidates, labels, begins, ends: int64 [n].
    """

    users: np.ndarray
    candidates: np.ndarray
    labels: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> "Rows":
        return Rows(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.begins


def read_log(directory: Path) -> Log:
    """Reads what `tandem data fetch complete-journey` wrote."""
    events, items, users = (
        pq.read_table(directory / f"{name}.parquet").to_pandas()
        for name in ("events", "items", "users")
    )
    # Some purchases are of products, and of households, that the tables lack.
    item_names = np.union1d(events["item_id"].unique(), items["item_id"])
    user_names = np.union1d(events["user_id"].unique(), users["user_id"])
    timestamps = events["timestamp"].to_numpy(np.int64)
    user = np.searchsorted(user_names, events["user_id"])
    item = np.searchsorted(item_names, events["item_id"])
    order = np.lexsort((item, timestamps, user))
    return make_log(
        user[order],
        item[order],
        timestamps[order],
        _codes(users.set_index("user_id").reindex(user_names), USER_FEATURES),
        _codes(items.set_index("item_id").reindex(item_names), ITEM_FEATURES),
    )


def _codes(table, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Returns the columns as ids; a value's is by its place among all, sorted."""
    found = {}
    for name in names:
        codes = table[name].astype("category").cat.codes.to_numpy(np.int64)
        found[name] = np.where(codes < 0, 0, codes + _FIRST_KNOWN)
    return found


def make_log(
    users: np.ndarray,
    items: np.ndarray,
    timestamps: np.ndarray,
    user_features: dict[str, np.ndarray],
    item_features: dict[str, np.ndarray],
) -> Log:
    """Returns the log with its splits; purchases stand by user, then by time."""
    in_time = np.sort(timestamps)
    test_from = in_time[int(len(in_time) * (1 - TEST_SHARE))]
    before = in_time[in_time < test_from]
    validation_from = before[int(len(before) * (1 - VALIDATION_SHARE))]
    is_train = timestamps < validation_from
    is_validation = ~is_train & (timestamps < test_from)
    return Log(
        users, items, timestamps, user_features, item_features, is_train, is_validation
    )


def draw_rows(
    log: Log,
    is_in_split: np.ndarray,
    num_positives: int,
    min_history: int,
    max_history: int,
    rng: np.random.Generator,
) -> Rows:
    """Draws a split's rows: each positive, and behind it its negative.

    Args:
        log: all purchases.
        is_in_split: bool [N].
        num_positives: so many, or as many as there are.
        min_history: earlier purchases that a positive must have.
        max_history: purchases of a history at most.
        rng: decides.
    """
    first = np.searchsorted(log.users, log.users)  # of the user's purchases
    is_new = np.ones(len(log.users), bool)  # first of its basket
    is_new[1:] = (np.diff(log.users) != 0) | (np.diff(log.timestamps) != 0)
    basket = np.cumsum(is_new) - 1
    ends = np.flatnonzero(is_new)[basket]  # the purchases before it are earlier
    eligible = np.flatnonzero(is_in_split & (ends - first >= min_history))
    chosen = rng.permutation(eligible)[:num_positives]
    in_basket = {
        (int(b), int(i)) for b, i in zip(basket, log.items, strict=True)
    }.__contains__
    bought = log.items[log.is_train]
    negatives = rng.choice(bought, len(chosen))
    while True:
        wrong = [
            place
            for place, (event, item) in enumerate(zip(chosen, negatives, strict=True))
            if in_basket((int(basket[event]), int(item)))
        ]
        if not wrong:
            break
        negatives[wrong] = rng.choice(bought, len(wrong))
    twice = np.repeat(chosen, 2)
    candidates = np.stack([log.items[chosen], negatives], axis=1).ravel()
    begins = np.maximum(first[twice], ends[twice] - max_history)
    labels = np.tile([1, 0], len(chosen))
    return Rows(log.users[twice], candidates, labels, begins, ends[twice])


def histories(log_items: np.ndarray, rows: Rows) -> np.ndarray:
    """Returns the histories [n, T], padded with -1 on the left to the longest."""
    width = int(rows.lengths.max(initial=0))
    places = rows.ends[:, np.newaxis] + np.arange(-width, 0)
    is_event = places >= rows.begins[:, np.newaxis]
    return np.where(is_event, log_items[np.maximum(places, 0)], -1)


def batches(
    rows: Rows, batch_size: int, rng: np.random.Generator, sorted_together: int = 20
) -> Iterator[np.ndarray]:
    """Yields the places of each batch of an epoch; every row once, but for a rest.

    Rows are shuffled; of so many batches, rows of like length then come together, so that
    a batch is not padded to the longest history there is.
    """
    order = rng.permutation(len(rows))
    whole = len(rows) // batch_size * batch_size
    found = []
    for start in range(0, whole, batch_size * sorted_together):
        some = order[start : min(start + batch_size * sorted_together, whole)]
        some = some[np.argsort(rows.lengths[some], kind="stable")]
        found += [some[at : at + batch_size] for at in range(0, len(some), batch_size)]
    for place in rng.permutation(len(found)):
        yield found[place]


def times_bought(log_items: np.ndarray, rows: Rows) -> np.ndarray:
    """Returns [n] how often the candidate stands in the history: the trivial ranker."""
    return (histories(log_items, rows) == rows.candidates[:, np.newaxis]).sum(axis=1)
