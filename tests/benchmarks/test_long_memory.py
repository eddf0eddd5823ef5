"""The world tells nothing but by order; figures by hand; a model trained for ten steps."""

import dataclasses

import numpy as np
import pytest

from benchmarks import long_memory
from benchmarks.long_memory import Figures, Outcome, Scale, kept, plots
from benchmarks.long_memory_world import Rows, World

LAGS = (1, 3, 9)
WORLD = World(LAGS, kinds=3, noise_items=5, longest_gap=4)
TINY = Scale(LAGS, ("dnn", "hpmn"), 10, 60, (1, 2))


# ---------------------------------------------------------------- the world


def check_world(draw):
    """The checker: what `World` says, row by row."""
    rows = draw(WORLD, 3000, np.random.default_rng(0))
    assert rows.history.shape == (3000, 13)
    for history, candidate, label, lag in zip(
        rows.history, rows.candidate, rows.label, rows.lag, strict=True
    ):
        (older, newer) = np.flatnonzero(history < WORLD.kinds)
        assert len(history) - newer == lag and 1 <= newer - older <= 4
        assert history[older] != history[newer]
        assert candidate == history[newer if label else older]
    for lag in LAGS:
        of_lag = rows.lag == lag
        assert of_lag.mean() == pytest.approx(1 / 3, abs=0.04)
        assert rows.label[of_lag].mean() == pytest.approx(1 / 2, abs=0.06)
    for kind in range(WORLD.kinds):  # the candidate alone says nothing
        assert rows.label[rows.candidate == kind].mean() == pytest.approx(0.5, abs=0.06)


def labels_the_older(world, num_rows, rng):
    rows = world.draw(num_rows, rng)
    return dataclasses.replace(rows, label=1 - rows.label)


def one_event_off(world, num_rows, rng):
    rows = world.draw(num_rows, rng)
    return dataclasses.replace(rows, history=np.roll(rows.history, -1, axis=1))


def declares_in_noise(world, num_rows, rng):
    rows = world.draw(num_rows, rng)
    return dataclasses.replace(rows, history=rows.history % (world.kinds + 1))


def likes_new_kinds(world, num_rows, rng):
    """The label can be told without the history."""
    rows = world.draw(2 * num_rows, rng)
    chosen = np.flatnonzero((rows.candidate > 0) | (rows.label == 0))[:num_rows]
    return Rows(*(getattr(rows, f.name)[chosen] for f in dataclasses.fields(rows)))


def test_world_is_as_it_says():
    check_world(World.draw)


@pytest.mark.parametrize(
    "wrong", [labels_the_older, one_event_off, declares_in_noise, likes_new_kinds]
)
def test_world_checker_rejects(wrong):
    with pytest.raises((AssertionError, ValueError)):
        check_world(wrong)


# ---------------------------------------------------------------- figures


def check_figures(figures_class):
    """The checker: one model forgets at once, the other after 3 events."""
    rows = WORLD.draw(900, np.random.default_rng(1))
    noise = np.random.default_rng(2).normal(size=900)
    knows = rows.label - 0.5
    layer = np.searchsorted(LAGS, rows.lag)  # lag 9 reads the third layer
    outcomes = {
        "dnn": Outcome(
            np.where(rows.lag == 1, knows, 0.0), np.zeros([900, 0]), *_cost(3)
        ),
        "hpmn": Outcome(
            np.where(rows.lag == 9, noise, knows), np.eye(3)[layer], *_cost(4)
        ),
    }
    figures = figures_class(rows, LAGS, outcomes)
    values, intervals = figures.values, figures.intervals
    assert [values[f"auc_lag{lag}_dnn"] for lag in LAGS] == [1.0, 0.5, 0.5]
    assert [values[f"auc_lag{lag}_hpmn"] for lag in (1, 3)] == [1.0, 1.0]
    assert values["auc_lag9_hpmn"] == pytest.approx(0.5, abs=0.1)
    low, high = intervals["auc_lag9_hpmn"]
    assert low < 0.5 < high and 0.05 < high - low < 0.25
    assert values["auc_lag3_hpmn_minus_best_other"] == 0.5
    assert intervals["auc_lag3_hpmn_minus_best_other"] == (0.5, 0.5)
    assert [values[f"attention_lag{lag}"] for lag in LAGS] == [1.0, 2.0, 3.0]
    assert values["attention_lag9_minus_lag1"] == 2.0
    assert values["attention_lag3_layer2"] == 1.0
    assert values["attention_lag3_layer1"] == 0.0
    assert values["parameters_hpmn"] == 4


def _cost(parameters):
    return np.zeros([10, 3]), np.array(1.5), np.array(parameters)


class MixesLags(Figures):
    def __init__(self, rows, lags, outcomes):
        mixed = np.random.default_rng(3).permutation(rows.lag)
        super().__init__(dataclasses.replace(rows, lag=mixed), lags, outcomes)


class ComparesUnpaired(Figures):
    def _compare_with_hpmn(self, aucs):
        auc, resampled = aucs["dnn"]
        turned = resampled - 0.01 * np.arange(len(resampled))[:, np.newaxis]
        super()._compare_with_hpmn({**aucs, "dnn": (auc, turned)})


class CountsLayersFromZero(Figures):
    def _note_layers(self, attention):
        super()._note_layers(attention[:, 1:])


def test_figures():
    check_figures(Figures)


@pytest.mark.parametrize("wrong", [MixesLags, ComparesUnpaired, CountsLayersFromZero])
def test_figures_checker_rejects(wrong):
    with pytest.raises((AssertionError, KeyError)):
        check_figures(wrong)


# ---------------------------------------------------------------- training


def test_models_are_trained_and_kept(tmp_path, monkeypatch):
    test = WORLD.draw(60, np.random.default_rng(0))
    found = {
        name: kept(tmp_path / f"{name}.npz", name, WORLD, TINY, 0, test)
        for name in TINY.models
    }
    assert found["hpmn"].logits.shape == (60,) and found["hpmn"].logits.std() > 0
    np.testing.assert_allclose(found["hpmn"].attention.sum(axis=1), 1.0, rtol=1e-5)
    assert found["hpmn"].attention.shape == (60, 2) and found["dnn"].attention.size == 0
    assert found["hpmn"].learning.shape == (10, 3)
    drawn = plots(Figures(test, LAGS, found), found, TINY)
    assert [plot.name for plot in drawn] == ["auc", "learning", "attention"]
    monkeypatch.setattr(long_memory, "outcome", None)  # not trained again
    again = kept(tmp_path / "dnn.npz", "dnn", WORLD, TINY, 0, test)
    np.testing.assert_array_equal(again.logits, found["dnn"].logits)
