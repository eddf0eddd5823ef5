"""The world's log follows its truth, and its recall is what the truth says."""

import numpy as np
import pytest

from benchmarks import power_law_world
from benchmarks.power_law_world import World
from models.signatures import transformed_signature

WORLD = World.make(num_contexts=4, num_items=30, seed=0)
NUM_EVENTS = 40_000


def check_events(draw):
    contexts, items = draw(NUM_EVENTS, 1)
    for context in range(4):
        own = items[contexts == context]
        seen = np.bincount(own, minlength=30) / len(own)
        truth = WORLD.conditional[context]
        spread = np.sqrt(truth * (1 - truth) / len(own))
        assert (np.abs(seen - truth) < 5 * spread + 1e-4).all()
        assert abs(len(own) - NUM_EVENTS / 4) < 5 * np.sqrt(NUM_EVENTS * 3 / 16)


def test_events():
    check_events(WORLD.events)


def one_taste_for_all(num_events, seed):
    contexts, items = WORLD.events(num_events, seed)
    return contexts, np.random.default_rng(seed).permutation(items)


def items_shifted(num_events, seed):
    contexts, items = WORLD.events(num_events, seed)
    return contexts, (items + 1) % 30


@pytest.mark.parametrize("wrong", [one_taste_for_all, items_shifted])
def test_checker_rejects_wrong_events(wrong):
    with pytest.raises(AssertionError):
        check_events(wrong)


def test_conditional_is_the_softmax_of_popularity_and_taste():
    sums = WORLD.conditional.sum(axis=1)
    np.testing.assert_allclose(sums, 1)
    # Without taste every context picks by the power law alone.
    bland = World.make(num_contexts=2, num_items=5, seed=0, taste=0.0, exponent=1.5)
    law = np.arange(1, 6) ** -1.5
    np.testing.assert_allclose(bland.conditional, [law / law.sum()] * 2)


def check_recall(recall):
    scores = np.tile(np.arange(30.0), [4, 1])  # the top 2 are items 29 and 28
    expected = WORLD.conditional[:, 28] + WORLD.conditional[:, 29]
    np.testing.assert_allclose(recall(scores, 2), expected)
    best = np.sort(WORLD.conditional, axis=1)[:, ::-1][:, :3].sum(axis=1)
    np.testing.assert_allclose(recall(WORLD.conditional, 3), best)


def test_recall():
    check_recall(WORLD.recall)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda scores, k: WORLD.recall(-scores, k),
        lambda scores, k: WORLD.recall(scores, k + 1),
        lambda scores, k: WORLD.recall(scores, k) / k,
    ],
)
def test_checker_rejects_wrong_recall(wrong):
    with pytest.raises(AssertionError):
        check_recall(wrong)


def test_features_are_what_the_towers_read():
    space = power_law_world.feature_space(WORLD)
    query = power_law_world.query_features(np.arange(4))
    items = power_law_world.item_features(np.arange(30))
    assert set(query) == set(transformed_signature(space, space.query_names))
    assert set(items) == set(transformed_signature(space, space.candidate_names))
    assert items["item_id_xf"].max() == space.item_id.num_ids - 1
    assert query["user_segment_xf"].max() == space.user[0].num_ids - 1
