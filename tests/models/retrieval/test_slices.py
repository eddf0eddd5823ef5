"""Slices of the test events: each event under the label that a loop gives it."""

import numpy as np
import pytest

from models.retrieval import slices
from tests.models.retrieval import evaluation_reference as reference

DAY = 24 * 60 * 60 * 1000


def labels_of(slicing: slices.Slicing) -> list[str | None]:
    return [slicing.labels[g] if g >= 0 else None for g in slicing.groups]


def check_history(by_history_length) -> None:
    lengths = np.array([0, 1, 4, 5, 19, 20, 49, 50, 199, 200, 10_000])
    seen = labels_of(by_history_length(lengths))
    assert seen == [reference.label_of_history(n) for n in lengths.tolist()]


def check_age(by_item_age) -> None:
    ages = np.array([-3, 0, 0.99, 1, 6.99, 7, 29, 30, 89.9, 90, 364, 365, 4000])
    came = 5000 * DAY
    item_times = np.array([came, -1])
    items = np.array([0] * len(ages) + [1, -1])
    times = np.concatenate([came + ages * DAY, [came, came]]).astype(np.int64)
    seen = labels_of(by_item_age(times, items, item_times))
    expected = [reference.label_of_age(age) for age in ages.tolist()]
    assert seen == [*expected, None, None]


def check_popularity(by_popularity) -> None:
    rng = np.random.default_rng(4)
    counts = np.concatenate([[0, 0, 1, 1, 1, 500], rng.integers(0, 30, size=60)])
    items = np.append(np.arange(len(counts)), -1)
    seen = labels_of(by_popularity(items, counts))
    expected = [
        reference.label_of_popularity(counts.tolist(), item) for item in items[:-1]
    ]
    assert seen == [*expected, None]
    assert seen[5] == "10"


def _shifted(by):
    def wrong(*args):
        slicing = by(*args)
        groups = np.where(slicing.groups > 0, slicing.groups - 1, slicing.groups)
        return slices.Slicing(slicing.labels, groups)

    return wrong


def _left_bounds(lengths):
    groups = np.searchsorted([1, 5, 20, 50, 200], lengths, side="left")
    return slices.Slicing(slices.by_history_length(lengths).labels, groups)


def _unknown_is_old(times, items, item_times):
    return slices.by_item_age(times, items, np.maximum(item_times, 0))


def _in_hours(times, items, item_times):
    return slices.by_item_age(
        item_times[0] + (times - item_times[0]) // 24, items, item_times
    )


def _among_all_items(items, counts):
    return slices.by_popularity(items, counts + 1)


def _unknown_is_the_last_item(items, counts):
    return slices.by_popularity(items % len(counts), counts)


CASES = [
    (check_history, slices.by_history_length, [_left_bounds]),
    (check_age, slices.by_item_age, [_unknown_is_old, _in_hours]),
    (
        check_popularity,
        slices.by_popularity,
        [_among_all_items, _unknown_is_the_last_item],
    ),
]


@pytest.mark.parametrize(("check", "ours", "wrong"), CASES)
def test_slices_equal_the_loop_and_the_checker_rejects_wrong_ones(check, ours, wrong):
    check(ours)
    for variant in [*wrong, _shifted(ours)]:
        with pytest.raises(AssertionError):
            check(variant)


def test_labels_are_read_in_order():
    assert slices.by_history_length(np.array([0])).labels == (
        *("0", "1 to 4", "5 to 19", "20 to 49", "50 to 199", ">= 200"),
    )
    ages = slices.by_item_age(np.array([0]), np.array([0]), np.array([0]))
    assert ages.labels == (
        *("< 1", "1 to 7", "7 to 30", "30 to 90", "90 to 365", ">= 365"),
    )


def test_catalogue_that_the_train_split_does_not_know_is_one_slice():
    slicing = slices.by_popularity(np.array([0, 1, -1]), np.zeros(2))
    assert labels_of(slicing) == ["not in train", "not in train", None]
