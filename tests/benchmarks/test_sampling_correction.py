"""Gains are relative, paired, and the least of them is what counts."""

import numpy as np
import pytest

from benchmarks import sampling_correction
from benchmarks.power_law_world import World
from benchmarks.sampling_correction import (
    TEMPERATURES,
    Scale,
    figures,
    kept,
    least_gains,
    plot,
    train_on_world,
)
from models.retrieval.settings import RetrievalSettings

UNITS = np.repeat(np.arange(50), 2)


def hits_of(plain, corrected):
    values = {"plain": plain, "corrected": corrected}
    return {
        (variant, temperature): {k: np.asarray(value, float) for k in (10, 50, 100)}
        for variant, value in values.items()
        for temperature in TEMPERATURES
    }


HITS = hits_of([1.0, 0.0] * 50, [1.0, 0.5] * 50)


def check_gain(implementation):
    values, intervals = implementation(HITS, UNITS, "_world")
    assert values["recall@10_plain_t0.05_world"] == pytest.approx(0.5)
    assert values["recall@10_corrected_t0.05_world"] == pytest.approx(0.75)
    assert values["recall@100_gain_t0.14_world"] == pytest.approx(0.5)
    # Every unit gains alike, so the gain is certain.
    assert intervals["recall@100_gain_t0.14_world"] == pytest.approx((0.5, 0.5))


def test_gain():
    check_gain(figures)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda hits, units, suffix: figures(hits, np.arange(len(units)), suffix),
        lambda hits, units, suffix: figures(
            {
                (v, t): hits["plain" if v == "corrected" else "corrected", t]
                for v, t in hits
            },
            units,
            suffix,
        ),
    ],
)
def test_checker_rejects_wrong_gain(wrong):
    with pytest.raises(AssertionError):
        check_gain(wrong)


def test_least_gain_is_over_logs_and_temperatures():
    values, intervals = figures(HITS, UNITS, "_world")
    other = hits_of([1.0, 0.5] * 50, [1.0, 0.8] * 50)
    other["corrected", 0.1][100] = np.tile([1.0, 0.65], 50)
    more, more_intervals = figures(other, UNITS, "")
    least, bounds = least_gains(values | more, intervals | more_intervals)
    assert least["recall@100_corrected_min_gain"] == pytest.approx(0.1)
    assert least["recall@10_corrected_min_gain"] == pytest.approx(0.2)
    assert bounds["recall@100_corrected_min_gain"] == pytest.approx((0.1, 0.1))


def test_plot_has_both_variants_at_every_cutoff():
    values, _ = figures(HITS, UNITS, "_world")
    drawn = plot(values, "_world", "a world")
    assert len(drawn.series) == 6
    assert drawn.series["corrected, k = 10"] == [(t, 0.75) for t in TEMPERATURES]
    assert drawn.series["plain, k = 100"] == [(t, 0.5) for t in TEMPERATURES]


def test_hits_are_trained_once(tmp_path):
    runs = []

    def train():
        runs.append(1)
        return {10: np.array([0.0, 1.0]), 100: np.array([1.0, 1.0])}

    for _ in range(2):
        hits = kept(tmp_path / "hits.npz", train)
        assert {k: v.tolist() for k, v in hits.items()} == {10: [0, 1], 100: [1, 1]}
    assert len(runs) == 1


def test_training_finds_the_order_of_the_truth():
    world = World.make(num_contexts=3, num_items=120, seed=0)
    scale = Scale(3, 120, 8_000, 3, has_movielens=False)
    settings = RetrievalSettings(batch_size=128, embedding_dim=16)
    found = train_on_world(world, scale, settings)
    chance = 10 / 120
    best = world.recall(world.conditional, 10).mean()
    assert found[10].shape == (3,)
    assert 3 * chance < found[10].mean() <= best


def test_outcomes_of_other_models_are_told_apart(monkeypatch, tmp_path):
    def key_with(text):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / "tower.py").write_text(text)
        monkeypatch.setattr(sampling_correction, "ROOT", tmp_path)
        return sampling_correction.sources_key(1)

    assert key_with("a = 1") != key_with("a = 2")
    assert key_with("a = 1") == key_with("a = 1")
