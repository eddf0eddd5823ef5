"""Slices of labelled rows: each row under the label that a loop gives it."""

import numpy as np
import pytest

from components import ranking_slices
from components.read_examples import JudgedRows
from models.retrieval.slices import Slicing
from tests.models.retrieval import evaluation_reference as reference

DAY = 24 * 60 * 60 * 1000


def labels_of(slicing: Slicing) -> list[str | None]:
    return [slicing.labels[g] if g >= 0 else None for g in slicing.groups]


def label_of_position(position: int) -> str | None:
    for low, high in ((0, 0), (1, 1), (2, 2)):
        if low <= position <= high:
            return str(low)
    for low, high in ((3, 4), (5, 9), (10, 19)):
        if low <= position <= high:
            return f"{low} to {high}"
    return ">= 20" if position >= 20 else None


def check_position(by_position) -> None:
    positions = np.array([-1, *range(25), 1000])
    expected = [label_of_position(position) for position in positions.tolist()]
    assert labels_of(by_position(positions)) == expected


def _unknown_is_first(positions):
    return ranking_slices.by_position(np.maximum(positions, 0))


def _from_one(positions):
    return ranking_slices.by_position(np.where(positions < 0, -1, positions + 1))


def test_rows_are_grouped_by_position():
    check_position(ranking_slices.by_position)


@pytest.mark.parametrize("wrong", [_unknown_is_first, _from_one])
def test_position_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_position(wrong)


def rows_of(items, times, positions=None, lengths=None) -> JudgedRows:
    size = len(items)
    return JudgedRows(
        users=np.full(size, b"u"),
        items=np.array([item.encode() for item in items], object),
        labels=np.zeros(size, np.float32),
        timestamps=np.array(times, np.int64),
        positions=np.full(size, -1) if positions is None else np.array(positions),
        history_lengths=np.zeros(size, int) if lengths is None else np.array(lengths),
        serialized=np.zeros(0, object),
    )


TRAIN = rows_of(["a", "b", "a", "c"], [30, 20, 10, 40])
TEST = rows_of(["c", "new", "a", "b"], [50, 60, 70, 80])
PUBLISHED = {b"b": 5, b"c": -1, b"elsewhere": 1}


def check_times(times_of_items) -> None:
    """b is published; c has no time, a no row in the table: their first rows count."""
    seen = times_of_items(TEST.items, PUBLISHED, TRAIN, TEST)
    assert seen.tolist() == [40, 60, 10, 5]


def _first_listed(wanted, published, *rows):
    ids = np.concatenate([part.items for part in rows]).tolist()
    times = np.concatenate([part.timestamps for part in rows])
    return np.array([published.get(i, times[ids.index(i)]) for i in wanted])


def _publishing_unread(wanted, published, *rows):
    return ranking_slices.times_of_items(wanted, {}, *rows)


def _test_alone(wanted, published, train, test):
    return ranking_slices.times_of_items(wanted, published, test)


def test_items_come_when_published_else_with_their_first_row():
    check_times(ranking_slices.times_of_items)


@pytest.mark.parametrize("wrong", [_first_listed, _publishing_unread, _test_alone])
def test_times_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_times(wrong)


def check_slicings(slicings_of) -> None:
    came = np.array([0, 100 * DAY, 400 * DAY])
    ages, lengths = [0.5, 10, 400], [0, 7, 50]
    times = came + np.array(ages) * DAY
    rows = rows_of(["a", "b", "c"], times, positions=[0, -1, 12], lengths=lengths)
    seen = slicings_of(rows, came)
    assert set(seen) == {"history_length", "item_age_days", "position"}
    assert labels_of(seen["history_length"]) == [
        reference.label_of_history(length) for length in lengths
    ]
    assert labels_of(seen["item_age_days"]) == [
        reference.label_of_age(age) for age in ages
    ]
    assert labels_of(seen["position"]) == ["0", None, "10 to 19"]
    without = slicings_of(rows_of(["a", "b", "c"], times, lengths=lengths), came)
    assert set(without) == {"history_length", "item_age_days"}


def _position_always(test, came):
    found = ranking_slices.slicings_of(test, came)
    return found | {"position": ranking_slices.by_position(test.positions)}


def _age_from_the_epoch(test, came):
    return ranking_slices.slicings_of(test, np.zeros_like(came))


def test_rows_are_sliced_by_history_age_and_position_where_there_is_one():
    check_slicings(ranking_slices.slicings_of)


@pytest.mark.parametrize("wrong", [_position_always, _age_from_the_epoch])
def test_slicings_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_slicings(wrong)
