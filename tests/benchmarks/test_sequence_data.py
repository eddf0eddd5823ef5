"""The protocol of the long histories, row by row on a small log."""

import dataclasses

import numpy as np
import pytest

from benchmarks import sequence_data
from benchmarks.sequence_data import (
    ID_BUCKETS,
    batches,
    draw_rows,
    histories,
    make_log,
    times_bought,
)

NUM_USERS, NUM_ITEMS, MIN_HISTORY, MAX_HISTORY = 6, 40, 5, 30


def small_log(seed=0):
    """Baskets of one to four products, at moments that are each household's own."""
    rng = np.random.default_rng(seed)
    users, items, timestamps = [], [], []
    share = 1 / np.arange(1, NUM_ITEMS + 1)
    share /= share.sum()
    for user in range(NUM_USERS):
        for moment in np.sort(rng.choice(1000, 40, replace=False)):
            basket = rng.choice(NUM_ITEMS, rng.integers(1, 5), replace=False, p=share)
            users += [user] * len(basket)
            items += sorted(basket.tolist())
            timestamps += [int(moment)] * len(basket)
    features = {"kind": np.arange(NUM_ITEMS) % 3}
    columns = (np.array(column, np.int64) for column in (users, items, timestamps))
    return make_log(*columns, {"age": np.zeros(NUM_USERS, np.int64)}, features)


LOG = small_log()


def drawn(draw, seed=0, split=None, positives=150):
    split = LOG.is_train if split is None else split
    rng = np.random.default_rng(seed)
    return draw(LOG, split, positives, MIN_HISTORY, MAX_HISTORY, rng)


def check_rows(draw):
    """The checker: what the protocol says, in loops over the log."""
    rows = drawn(draw)
    assert len(rows) == 300 and rows.labels.reshape(-1, 2).tolist() == [[1, 0]] * 150
    found = histories(LOG.items, rows)
    baskets = {}
    for user, item, moment in zip(LOG.users, LOG.items, LOG.timestamps, strict=True):
        baskets.setdefault((int(user), int(moment)), []).append(int(item))
    positives = set()
    for place in range(0, len(rows), 2):
        user, end = int(rows.users[place]), int(rows.ends[place])
        # The first purchase behind the history is of the row's own moment.
        moment = int(LOG.timestamps[end])
        assert LOG.users[end] == user and LOG.is_train[end]
        before = [
            item
            for (who, when), basket in sorted(baskets.items())
            if who == user and when < moment
            for item in basket
        ]
        assert len(before) >= MIN_HISTORY
        expected = before[-MAX_HISTORY:]
        for row in (place, place + 1):
            history = found[row]
            assert history[history >= 0].tolist() == expected
            assert (history[: len(history) - len(expected)] == -1).all()
            assert rows.users[row] == user
        basket = baskets[user, moment]
        assert rows.candidates[place] in basket
        assert rows.candidates[place + 1] not in basket
        positives.add((user, moment, int(rows.candidates[place])))
    assert len(positives) == 150  # none twice
    negatives = np.concatenate(
        [drawn(draw, seed).candidates[1::2] for seed in range(40)]
    )
    # What is bought often stands in baskets often, so a head item is refused more: of
    # those that hardly ever are, frequencies are those of the train split.
    popularity = LOG.popularity
    tail = np.flatnonzero((popularity < 15) & (popularity > 0))
    seen = np.bincount(negatives, minlength=NUM_ITEMS)[tail]
    expected = seen.sum() * popularity[tail] / popularity[tail].sum()
    chi_square = ((seen - expected) ** 2 / expected).sum()
    freedom = len(tail) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def sees_its_own_basket(*arguments):
    rows = draw_rows(*arguments)
    return dataclasses.replace(rows, ends=rows.ends + 1)


def forgets_the_limit(log, split, positives, low, high, rng):
    return draw_rows(log, split, positives, low, 10_000, rng)


def draws_evenly(log, split, positives, low, high, rng):
    rows = draw_rows(log, split, positives, low, high, rng)
    candidates = rows.candidates.copy()
    candidates[1::2] = rng.integers(0, NUM_ITEMS, positives)
    return dataclasses.replace(rows, candidates=candidates)


def of_any_split(log, split, *others):
    return draw_rows(log, np.ones_like(split), *others)


def test_rows_are_as_the_protocol_says():
    check_rows(draw_rows)


@pytest.mark.parametrize(
    "wrong", [sees_its_own_basket, forgets_the_limit, draws_evenly, of_any_split]
)
def test_rows_checker_rejects(wrong):
    with pytest.raises((AssertionError, IndexError)):
        check_rows(wrong)


def test_splits_are_by_global_time_and_part_no_moment():
    is_test = ~(LOG.is_train | LOG.is_validation)
    ends = [LOG.timestamps[split].max() for split in (LOG.is_train, LOG.is_validation)]
    begins = [LOG.timestamps[split].min() for split in (LOG.is_validation, is_test)]
    assert ends[0] < begins[0] and ends[1] < begins[1]
    assert not (LOG.is_train & LOG.is_validation).any()
    # A moment has few purchases here.
    assert is_test.mean() == pytest.approx(0.2, abs=0.01)
    assert LOG.is_validation.mean() == pytest.approx(0.08, abs=0.01)


def test_ids_are_of_the_train_split_and_others_are_hashed():
    items = LOG.items.copy()
    last = np.flatnonzero(~LOG.is_train)
    items[items == 0] = 1
    items[last[:3]] = 0  # so product 0 is new in the later splits
    log = dataclasses.replace(LOG, items=items)
    ids = log.ids("items")
    known = np.unique(items[log.is_train])
    assert ids[known].tolist() == list(
        range(ID_BUCKETS + 1, ID_BUCKETS + 1 + len(known))
    )
    assert 1 <= ids[0] <= ID_BUCKETS


def test_batches_hold_each_row_once_and_rows_of_like_length():
    rows = drawn(draw_rows)
    found = list(batches(rows, 16, np.random.default_rng(0), sorted_together=4))
    places = np.concatenate(found)
    assert len(set(places.tolist())) == len(places) == 300 // 16 * 16
    assert {len(batch) for batch in found} == {16}
    spread = np.mean([np.ptp(rows.lengths[batch]) for batch in found])
    alone = batches(rows, 16, np.random.default_rng(0), sorted_together=1)
    assert spread < np.mean([np.ptp(rows.lengths[batch]) for batch in alone]) / 2
    again = list(batches(rows, 16, np.random.default_rng(0), sorted_together=4))
    assert all((a == b).all() for a, b in zip(found, again, strict=True))


def test_times_bought_counts_the_candidate_in_the_history():
    rows = drawn(draw_rows)
    expected = [
        LOG.items[begin:end].tolist().count(candidate)
        for begin, end, candidate in zip(
            rows.begins, rows.ends, rows.candidates, strict=True
        )
    ]
    assert times_bought(LOG.items, rows).tolist() == expected
    assert max(expected) > 1


def test_files_are_read_as_fetched(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = {
        "events": {
            "user_id": ["b", "a", "a", "b"],
            "item_id": ["y", "x", "z", "x"],
            "timestamp": [5, 9, 2, 1],
        },
        "items": {"item_id": ["x", "y", "w"]}
        | {name: ["p", None, "q"] for name in sequence_data.ITEM_FEATURES},
        "users": {"user_id": ["b"]}
        | {name: ["old"] for name in sequence_data.USER_FEATURES},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    log = sequence_data.read_log(tmp_path)
    assert log.users.tolist() == [0, 0, 1, 1]  # a, b
    assert log.items.tolist() == [3, 1, 1, 2]  # z, x; x, y of w, x, y, z
    assert log.timestamps.tolist() == [2, 9, 1, 5]
    assert log.item_features["brand"].tolist() == [3, 2, 0, 0]
    assert log.user_features["age"].tolist() == [0, 2]
