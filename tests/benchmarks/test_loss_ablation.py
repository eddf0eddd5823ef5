"""Differences are of the same events, over seeds, and every variant is one change."""

import numpy as np
import pytest

from benchmarks.loss_ablation import (
    DEFAULT,
    VARIANTS,
    KnownWorld,
    Scale,
    all_hits,
    by_seed,
    figures,
)
from benchmarks.power_law_world import World
from models.retrieval.settings import RetrievalSettings

USERS = np.repeat(np.arange(50), 2)


def _hits(*seeds):
    return [{10: np.tile(pair, 50), 100: np.ones(100)} for pair in seeds]


HITS = {DEFAULT: _hits([1.0, 0.0], [0.0, 0.0]), "other": _hits([1.0, 1.0], [0.0, 1.0])}


def check_differences(implementation):
    values, intervals = implementation(HITS, USERS, "_x")
    assert values["recall@10_default_x"] == pytest.approx(0.25)
    assert values["recall@10_other_x"] == pytest.approx(0.75)
    assert values["recall@10_other_minus_default_x"] == pytest.approx(0.5)
    assert values["recall@100_other_minus_default_x"] == pytest.approx(0.0)
    # Each user gains alike, so the difference is certain; so it is where none gains.
    low, high = intervals["recall@10_other_minus_default_x"]
    assert (low, high) == pytest.approx((0.5, 0.5))
    assert f"recall@10_{DEFAULT}_minus_default_x" not in values


WRONG = {
    "events are drawn": lambda hits, users, suffix: figures(
        hits, np.arange(len(users)), suffix
    ),
    "the first seed alone": lambda hits, users, suffix: figures(
        {name: found[:1] for name, found in hits.items()}, users, suffix
    ),
    "turned round": lambda hits, users, suffix: figures(
        {DEFAULT: hits["other"], "other": hits[DEFAULT]}, users, suffix
    ),
}


def test_differences():
    check_differences(figures)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_checker_of_differences_rejects(wrong):
    with pytest.raises(AssertionError):
        check_differences(wrong)


def test_recall_from_each_seed_is_kept():
    assert by_seed(HITS, "")["recall@10_other"] == [1.0, 0.5]


def test_variants_are_settings_that_differ():
    settings = [RetrievalSettings(**changed) for changed in VARIANTS.values()]
    assert settings[0] == RetrievalSettings()
    assert len({one.model_dump_json() for one in settings}) == len(VARIANTS)


def test_every_variant_is_trained_from_every_seed_once(tmp_path):
    asked = []

    class Log:
        def train(self, settings):
            asked.append(settings)
            return {10: np.ones(2), 100: np.ones(2)}

    for _ in range(2):
        hits = all_hits(Log(), "log", 2, tmp_path, "key")
    assert {name: len(found) for name, found in hits.items()} == dict.fromkeys(
        VARIANTS, 2
    )
    assert len(asked) == 2 * len(VARIANTS)
    assert {one.seed for one in asked} == {0, 1}


def test_training_on_the_world_finds_its_order():
    world = World.make(num_contexts=3, num_items=120, seed=0)
    log = KnownWorld(world, Scale(1, 3, 120, 8_000, 3, has_movielens=False))
    settings = RetrievalSettings(
        batch_size=128,
        embedding_dim=16,
        sampling_measure="expected_count",
        drawn_negatives=32,
    )
    found = log.train(settings)
    best = world.recall(world.conditional, 10).mean()
    assert found[10].shape == (3,)
    assert 3 * (10 / 120) < found[10].mean() <= best
