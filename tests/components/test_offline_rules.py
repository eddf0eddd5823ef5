"""The slow path's rules against the fused graph's, and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from components.offline_policy import choose
from components.offline_rules import OfflineRules, with_enough_fitting
from models.policy import SlateRules, select_slate
from models.policy_settings import PolicySettings
from models.recommender_items import Caps

RNG = np.random.default_rng(5)
NUM_ITEMS, NUM_REQUESTS, NUM_PLACES, NUM_EXPLORED = 20, 6, 6, 9
GENRES = [list(RNG.choice([*"abcdefg"], RNG.integers(0, 3))) for _ in range(NUM_ITEMS)]
BRANDS = [[f"brand{n}"] for n in RNG.integers(0, 5, NUM_ITEMS)]
CAPS = {"genres": 2, "brand": 3}
VALUES = [
    [(2, genres), (3, brand)] for genres, brand in zip(GENRES, BRANDS, strict=True)
]
VECTORS = RNG.normal(size=[NUM_ITEMS, 4]).astype(np.float32)
LOGITS = RNG.normal(size=[NUM_REQUESTS, NUM_ITEMS]).astype(np.float32)
KEYS = RNG.integers(0, 2**62, NUM_ITEMS)
BELIEFS = {
    "means": LOGITS,
    "deviations": RNG.uniform(0.2, 1, LOGITS.shape).astype(np.float32),
}
DIVERSE = {"relevance": 0.6}
POLICIES = {
    "greedy": PolicySettings(caps=CAPS),
    "diverse greedy": PolicySettings(diversity=DIVERSE),
    "softmax": PolicySettings(name="softmax", temperature=0.5, caps=CAPS),
    "diverse softmax": PolicySettings(
        name="softmax", temperature=0.5, caps=CAPS, diversity=DIVERSE
    ),
    "epsilon greedy": PolicySettings(name="epsilon_greedy", epsilon=0.4, caps=CAPS),
    "thompson": PolicySettings(
        name="thompson", draw="logit", caps=CAPS, diversity=DIVERSE
    ),
}


def check_choice(chosen, policy):
    """Order and propensities are those of the fused graph, request by request."""

    def tiled(values):
        return tf.tile(values[tf.newaxis], [NUM_REQUESTS, *[1] * values.ndim])

    caps = Caps.of([(2, GENRES), (3, BRANDS)]) if policy.caps else None
    fused = select_slate(
        tf.constant(LOGITS),
        tf.ones(LOGITS.shape, tf.bool),
        tiled(KEYS),
        tf.range(NUM_REQUESTS, dtype=tf.int64),
        policy,
        NUM_PLACES,
        NUM_EXPLORED,
        {name: tf.constant(values) for name, values in BELIEFS.items()},
        SlateRules(
            policy,
            tiled(caps.values) if caps else None,
            caps.limits if caps else (),
            tiled(VECTORS),
        ),
    )
    for row in range(NUM_REQUESTS):
        order, propensities = chosen(row, policy)
        size = int(fused.is_shown[row].numpy().sum())
        assert fused.order[row, :size].numpy().tolist() == order.tolist()
        np.testing.assert_allclose(
            fused.propensities[row, :size], propensities, rtol=1e-4, atol=1e-6
        )


def _chosen(row, policy, values=VALUES, vectors=VECTORS):
    relevance = policy.diversity.relevance if policy.diversity else 1.0
    values = values if policy.caps else [[]] * NUM_ITEMS
    rules = OfflineRules(values, relevance, vectors)
    beliefs = {name: values[row] for name, values in BELIEFS.items()}
    return choose(
        LOGITS[row], KEYS, row, policy, NUM_PLACES, NUM_EXPLORED, beliefs, rules
    )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_choose_is_what_the_fused_graph_does_under_rules(policy):
    check_choice(_chosen, policy)


WRONG = {
    "brands ignored": lambda row, policy: _chosen(
        row, policy, [item[:1] for item in VALUES]
    ),
    "other vectors": lambda row, policy: _chosen(row, policy, vectors=VECTORS[::-1]),
    "not diverse": lambda row, policy: _chosen(
        row, policy.model_copy(update={"diversity": None})
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_choice_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_choice(wrong, POLICIES["diverse softmax"])


def test_ranked_items_are_filled_up_to_what_the_caps_allow():
    values = [[(1, ["a"])]] * 4 + [[(1, ["b"])], [(1, [])], [(1, ["b"])]]
    rows = [0, 1, 2, 3, 6, 5, 4]
    # Two that fit come first, then as many of the nearest as are ranked.
    assert with_enough_fitting(rows, values, 4, 2) == [0, 6, 1, 2]
    assert with_enough_fitting(rows, values, 5, 2) == [0, 1, 2, 3, 6]
    assert with_enough_fitting(rows, values, 4, 3) == [0, 6, 5, 1]
