"""The pure parts of ctr_peers: who is chosen, what is compared, how it is drawn."""

import math

import numpy as np
import pytest

from benchmarks.ctr_contest import Outcome, compete
from benchmarks.ctr_peers import figures, pace_figures, single_column, thinned
from tests.benchmarks import ctr_world


class Says:
    """Gives the labels, bent by an amount on validation and another on the test."""

    def __init__(self, *bends):
        self._bends = bends

    def candidates(self, table):
        labels = table.labels[int(table.num_fit) :]
        size = int(table.num_train - table.num_fit)
        for number, (on_validation, on_test) in enumerate(self._bends):
            bend = np.where(np.arange(len(labels)) < size, on_validation, on_test)
            yield {"number": number}, np.where(labels > 0, 1 - bend, bend)


def check_choice(compete_by):
    """The best on validation counts, whatever the test says."""
    table = ctr_world.table()
    outcome = compete_by(Says((0.4, 0.1), (0.2, 0.3), (0.3, 0.01)), table)
    assert outcome.setting == {"number": 1}
    labels = table.labels[table.test]
    np.testing.assert_allclose(outcome.probs, np.where(labels > 0, 0.7, 0.3))
    losses = [loss for _, _, loss in outcome.tried]
    np.testing.assert_allclose(losses, [-math.log(x) for x in (0.6, 0.8, 0.7)])


def _first(contestant, table):
    setting, probs = next(iter(contestant.candidates(table)))
    return Outcome(probs[-len(table.labels[table.test]) :], setting, [], 0.0)


def _best_on_test(contestant, table):
    labels = table.labels[table.test]
    found = [
        (np.abs(probs[-len(labels) :] - labels).sum(), setting, probs[-len(labels) :])
        for setting, probs in contestant.candidates(table)
    ]
    _, setting, probs = min(found, key=lambda one: one[0])
    return Outcome(probs, setting, [], 0.0)


def test_contestant_is_chosen_on_validation():
    check_choice(compete)


@pytest.mark.parametrize("wrong", [_first, _best_on_test])
def test_choice_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_choice(wrong)


def test_contestant_without_a_number_is_an_error():
    with pytest.raises(ValueError, match="a log loss that is a number"):
        compete(Says((math.nan, 0.1)), ctr_world.table())


def test_outcome_survives_its_file(tmp_path):
    outcome = compete(Says((0.4, 0.1), (0.2, 0.3)), ctr_world.table())
    outcome.save(tmp_path / "it.npz")
    again = Outcome.load(tmp_path / "it.npz")
    np.testing.assert_array_equal(again.probs, outcome.probs)
    assert again.setting == outcome.setting
    assert [loss for *_, loss in again.tried] == [loss for *_, loss in outcome.tried]


def test_figures_compare_in_pairs():
    """Of two that say the same, the difference is 0 in every draw."""
    table = ctr_world.table(600)
    labels = table.labels[table.test]
    rng = np.random.default_rng(0)
    good = np.clip(labels * 0.6 + 0.2 + rng.normal(0, 0.2, len(labels)), 0.01, 0.99)
    probs = {"tandem": good, "twin": good, "constant": np.full(len(labels), 0.5)}
    outcomes = {name: Outcome(p, {}, [], 0.0) for name, p in probs.items()}
    values, intervals = figures("toy", table, outcomes, 0)
    assert values["auc_constant_toy"] == 0.5
    assert values["logloss_constant_toy"] == pytest.approx(math.log(2))
    assert intervals["auc_tandem_minus_twin_toy"] == (0, 0)
    low, high = intervals["auc_tandem_minus_constant_toy"]
    assert 0 < low < values["auc_tandem_minus_constant_toy"] < high
    low, high = intervals["logloss_tandem_minus_constant_toy"]
    assert low < high < 0
    below = np.mean(
        [
            np.mean((good[labels > 0] > p) + 0.5 * (good[labels > 0] == p))
            for p in good[labels == 0]
        ]
    )
    assert values["auc_tandem_toy"] == pytest.approx(below)


def check_single_column(predict):
    """By hand: the mean label before the test, drawn towards the overall one."""
    table = ctr_world.table()
    before = table.labels[: int(table.num_train)]
    column = table.category("item_id")
    found = predict(table, "item_id")
    for value, seen in zip(column[table.test], found, strict=True):
        own = before[column[: int(table.num_train)] == value]
        expected = (own.sum() + 10 * before.mean()) / (len(own) + 10)
        assert seen == pytest.approx(expected, rel=1e-5)


def _without_prior(table, name):
    before = slice(0, int(table.num_train))
    column = table.category(name)
    return [
        table.labels[before][column[before] == value].mean()
        for value in column[table.test]
    ]


def _overall(table, name):
    return np.full(
        len(table.labels[table.test]), table.labels[: int(table.num_train)].mean()
    )


def test_single_column_value():
    check_single_column(single_column)


@pytest.mark.parametrize("wrong", [_without_prior, _overall])
def test_single_column_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_single_column(wrong)


def test_thinned_keeps_users_whole_and_splits_apart():
    table = ctr_world.table(600)
    some = thinned(table, 3)
    assert set(some.category("user_id").tolist()) == {3, 6}
    is_kept = table.category("user_id") % 3 == 0
    for part in ("fit", "validation", "test"):
        kept = table.labels[getattr(table, part)][is_kept[getattr(table, part)]]
        np.testing.assert_array_equal(some.labels[getattr(some, part)], kept)


def test_pace_is_the_smaller_ratio_of_the_logs():
    paces = {
        "trivago": {"tandem": [1.0, 2.0, 1.0], "deepctr": [3.0, 4.0, 2.0]},
        "movielens": {"tandem": [2.0, 2.0, 2.0], "deepctr": [3.0, 3.0, 2.0]},
    }
    values, spreads = pace_figures(paces)
    assert values["throughput_ratio_to_deepctr_trivago"] == 2
    assert values["throughput_ratio_to_deepctr_movielens"] == 1.5
    assert values["throughput_ratio_to_deepctr"] == 1.5
    assert spreads["throughput_ratio_to_deepctr"] == (1.0, 1.5)
    assert values["rows_per_cpu_s_tandem_movielens"] == 50 * 1024 / 2
