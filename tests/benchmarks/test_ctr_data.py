"""What the contestants of ctr_peers read: the past, and nothing but."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.ctr_data import CtrTable, movielens_table, past, trivago_table
from tests.benchmarks import ctr_world

USERS = np.array([1, 2, 1, 1, 2, 1])
TIMES = np.array([10, 10, 20, 20, 30, 30])
ITEMS = np.array([5, 6, 7, 8, 9, 4])
LABELS = np.array([True, False, False, True, True, True])


def check_past(past_of):
    """By hand; rows of the same moment are not each other's past."""
    history, means = past_of(USERS, TIMES, ITEMS, LABELS, np.ones(6, bool))
    seen = [row[row > 0].tolist() for row in history]
    assert seen == [[], [], [5], [5], [6], [5, 7, 8]]
    assert (history[5, :-3] == 0).all()
    # (sum + 1.5) / (number + 3): the rule of ingestion.
    expected = [0.5, 0.5, 2.5 / 4, 2.5 / 4, 1.5 / 4, 3.5 / 6]
    np.testing.assert_allclose(means, expected)
    liked, _ = past_of(USERS, TIMES, ITEMS, LABELS, LABELS)
    assert [row[row > 0].tolist() for row in liked][5] == [5, 8]


def _with_the_moment(users, times, items, labels, chosen):
    return past(users, times + np.arange(len(times)) / 10, items, labels, chosen)


def _everybodys(users, *rest):
    return past(np.ones_like(users), *rest)


def _all_items(users, times, items, labels, chosen):
    return past(users, times, items, labels, np.ones_like(chosen))


def test_past_value():
    check_past(past)


@pytest.mark.parametrize("wrong", [_with_the_moment, _everybodys, _all_items])
def test_past_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_past(wrong)


def test_known_tells_what_the_rows_to_fit_hold_and_nothing_more():
    table = ctr_world.table()
    known = table.known()
    fitted = set(table.category("item_id")[table.fit].tolist())
    for raw, number in zip(
        table.category("item_id"), known.category("item_id"), strict=True
    ):
        assert (number >= 2) == (raw in fitted)
    in_order = sorted(fitted)
    row = int(np.argmax(table.category("item_id")[table.fit]))
    assert known.category("item_id")[row] == 2 + len(in_order) - 1
    # A history's items have the numbers of the rows' items; 0 still pads.
    assert ((known.history == 0) == (table.history == 0)).all()
    met = table.history == table.category("item_id")[row]
    assert set(known.history[met].tolist()) <= {2 + len(in_order) - 1}
    assert (known.category("context_device") > 0).sum() == (
        table.category("context_device") > 0
    ).sum()


def test_table_survives_its_file(tmp_path):
    table = ctr_world.table()
    table.save(tmp_path / "table.npz")
    again = CtrTable.load(tmp_path / "table.npz")
    for name, values in dataclasses.asdict(table).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_trivago_table_reads_impressions_in_order_of_time(tmp_path):
    columns = {
        "user_id": ["b", "a", "a", "b", "a"],
        "session_id": ["s"] * 5,
        "timestamp": [3, 1, 1, 4, 2],
        "step": [1, 2, 2, 9, 4],
        "platform": ["DE"] * 5,
        "city": ["x", "y", "y", "x", "y"],
        "device": ["mobile"] * 5,
        "current_filters": [None, "f", None, None, "f"],
        "item": ["7", "8", "9", "7", "8"],
        "price": [100, 50, 60, 100, 50],
        "position": [1, 1, 2, 3, 1],
        "seen_before": [0, 0, 0, 1, 1],
        "click": [1, 0, 1, 0, 1],
    }
    later = {"user_id": "c", "click": 0}
    for name, values in columns.items():
        values.extend([later.get(name, values[0])] * 5)
    columns["timestamp"][5:] = range(5, 10)
    pq.write_table(pa.table(columns), tmp_path / "impressions.parquet")
    table = trivago_table(tmp_path)
    assert table.labels.tolist() == [0, 1, 1, 1, 0, *[0] * 5]
    assert "session" not in " ".join(table.category_names.tolist())
    assert (table.category("context_filters") > 0)[:5].tolist() == [1, 0, 1, 0, 0]
    np.testing.assert_allclose(
        np.exp(table.numbers[:5, 0]), [50, 60, 50, 100, 100], rtol=1e-5
    )
    # What was clicked enters the history: user a's item 9, then user b's item 7.
    items = table.category("item_id")
    assert [row[row > 0].tolist() for row in table.history[:5]] == [
        *([], [], [items[1]], [], [items[3]])
    ]
    assert (int(table.num_fit), int(table.num_train)) == (7, 8)


def test_movielens_table_joins_users_and_items(tmp_path):
    events = {
        "user_id": ["u", "v", "u"],
        "item_id": ["p", "p", "q"],
        "timestamp": [2, 1, 3],
        "value": [4.0, 3.0, 5.0],
    }
    for values in events.values():
        values.extend(values[1:2] * 7)
    events["timestamp"][3:] = range(4, 11)
    users = {
        "user_id": ["v", "u"],
        "gender": ["F", "M"],
        "age": [1, 25],
        "occupation": ["1", "2"],
    }
    items = {
        "item_id": ["q", "p"],
        "genres": [["Drama"], ["Comedy", "Drama"]],
        "release_year": [1999.0, 1990.0],
    }
    for name, columns in (("events", events), ("users", users), ("items", items)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    table = movielens_table(tmp_path)
    assert table.labels[:3].tolist() == [0, 1, 1]
    assert table.category("user_gender")[:3].tolist() == [1, 2, 2]
    assert table.lists[:3].tolist() == [[1, 2], [1, 2], [2, 0]]
    assert table.numbers[:3, 0].tolist() == [1990, 1990, 1999]
    assert table.history[:3, -1].tolist() == [0, 0, table.category("item_id")[1]]
