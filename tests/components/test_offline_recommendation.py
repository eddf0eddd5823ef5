"""The slow path: its policy against Plackett and Luce, its stages by hand."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf

from components import offline_noise
from components.build_index import ItemVectors
from components.offline_noise import gumbel
from components.offline_policy import choose as choose_by_key
from components.offline_recommendation import (
    OfflineModels,
    join_examples,
    recommend_offline,
)
from models.policy import gumbel_noise, select_slate
from models.policy_settings import Draw, PolicyName, PolicySettings
from schemas.features import Feature, FeatureCatalog, FeatureKind

GREEDY = PolicySettings(name=PolicyName.GREEDY)
SOFTMAX = PolicySettings(name=PolicyName.SOFTMAX, temperature=0.5)
EPSILON_GREEDY = PolicySettings(name=PolicyName.EPSILON_GREEDY, epsilon=0.3)
FLOORED = PolicySettings(name=PolicyName.SOFTMAX, temperature=0.5, epsilon=0.3)
CATALOG = FeatureCatalog(
    user=(Feature(name="age", kind=FeatureKind.NUMERIC),),
    item=(
        Feature(name="title", kind=FeatureKind.TEXT),
        Feature(name="price", kind=FeatureKind.NUMERIC),
        Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL, weights="counts"),
    ),
    context=(
        Feature(name="hour", kind=FeatureKind.CATEGORICAL),
        Feature(name="page", kind=FeatureKind.ITEM_ID),
    ),
)
MASK = 2**64 - 1


def choose(logits, ids, seed, policy, *limits, **beliefs):
    """Returns what the policy chooses of named items."""
    keys = tf.strings.to_hash_bucket_fast(list(ids), 2**62).numpy()
    return choose_by_key(np.asarray(logits), keys, seed, policy, *limits, **beliefs)


def splitmix64(state: int) -> int:
    """Steele et al. 2014, figure 16, on Python's integers."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_oracle_is_splitmix64():
    # The published first outputs for seed 1234567 (rosettacode.org, "Pseudo-random
    # numbers/Splitmix64"); a state grows by the golden gamma at each draw.
    gamma = 0x9E3779B97F4A7C15
    states = [(1234567 + draw * gamma) & MASK for draw in range(3)]
    assert [splitmix64(state) for state in states] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


KEYS = np.array([0, 1, 17, 2**61, 2**62 - 1], np.int64)


def check_noise(noise) -> None:
    """The checker: -log(-log(u)) of the 52 upper bits, for seeds of either sign."""
    for seed in (0, 1, -1, 42, 2**63 - 1, -(2**63)):
        expected = []
        for key in KEYS.tolist():
            bits = splitmix64((splitmix64(seed & MASK) + key) & MASK) >> 12
            expected.append(-math.log(-math.log((bits + 0.5) / 2**52)))
        np.testing.assert_allclose(noise(seed, KEYS), expected, rtol=1e-12)


def test_noise_equals_integer_arithmetic():
    check_noise(gumbel)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda seed, keys: gumbel(abs(seed), keys),
        lambda seed, keys: gumbel(seed, keys + 1),
        lambda seed, keys: -gumbel(seed, keys),
        lambda seed, keys: gumbel(0, keys + seed % 2**32),
    ],
    ids=["sign of the seed lost", "another item", "minimum's law", "seed added"],
)
def test_noise_checker_rejects(wrong):
    with pytest.raises((AssertionError, OverflowError)):
        check_noise(wrong)


def test_noise_is_that_of_the_fused_graph():
    for seed in (0, -5, 2**63 - 1):
        fused = gumbel_noise(tf.constant([seed], tf.int64), tf.constant([KEYS]))
        np.testing.assert_allclose(fused[0], gumbel(seed, KEYS), rtol=1e-12)


@pytest.mark.parametrize("extreme", [0, MASK])
def test_noise_of_the_largest_draw_was_infinite(monkeypatch, extreme):
    # 53 bits and a half do not fit a double: the largest u was rounded up to 1.
    monkeypatch.setattr(
        offline_noise,
        "_splitmix64",
        lambda x: np.full(x.shape, extreme, np.uint64),
    )
    assert np.isfinite(gumbel(1, KEYS)).all()


def test_noise_follows_gumbels_law():
    n = 20_000
    draws = np.sort(gumbel(3, np.arange(n, dtype=np.int64)))
    law = np.exp(-np.exp(-draws))
    steps = np.arange(n + 1) / n
    distance = max((steps[1:] - law).max(), (law - steps[:-1]).max())
    # Kolmogorov: P(sqrt(n) * distance > 1.95) is 0.001.
    assert distance < 1.95 / math.sqrt(n)


LOGITS = np.array([0.2, -0.4, 0.5])
ITEMS = ["i1", "i2", "i3"]
NUM_SEEDS = 3000


def plackett_luce(order, logits, temperature) -> list[float]:
    """Returns the chance of each draw of an order, without replacement."""
    weights = [math.exp(logit / temperature) for logit in logits]
    left, chances = sum(weights), []
    for item in order:
        chances.append(weights[item] / left)
        left -= weights[item]
    return chances


def check_choose(choose_slate) -> None:
    """The checker: over many seeds, all six orders come as often as they should.

    And each slate carries the chances of its own draws.
    """
    counts = collections.Counter()
    for seed in range(NUM_SEEDS):
        order, propensities = choose_slate(LOGITS, ITEMS, seed, SOFTMAX)
        order = tuple(order.tolist())
        counts[order] += 1
        expected = plackett_luce(order, LOGITS, 0.5)
        np.testing.assert_allclose(propensities, expected, rtol=1e-9)
    chi_square = 0.0
    for order in itertools.permutations(range(3)):
        expected = NUM_SEEDS * math.prod(plackett_luce(order, LOGITS, 0.5))
        chi_square += (counts[order] - expected) ** 2 / expected
    assert chi_square < 20.52  # 5 degrees of freedom, p = 0.001


def test_softmax_draws_without_replacement_as_plackett_and_luce():
    check_choose(choose)


def _colder(logits, ids, seed, policy):
    order, _ = choose(logits / 2, ids, seed, policy)
    return order, np.array(plackett_luce(order.tolist(), logits, 0.5))


def _marginal(logits, ids, seed, policy):
    order, _ = choose(logits, ids, seed, policy)
    weights = np.exp(logits / policy.temperature)
    return order, (weights / weights.sum())[order]


def _same_noise(logits, ids, seed, policy):
    return choose(logits, ids, 1, policy)


def _greedy(logits, ids, seed, policy):
    order = np.argsort(-logits)
    return order, np.array(plackett_luce(order.tolist(), logits, 0.5))


@pytest.mark.parametrize("wrong", [_colder, _marginal, _same_noise, _greedy])
def test_choose_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_choose(wrong)


def test_noise_belongs_to_the_item_not_to_its_place():
    # Otherwise a different retrieval order would draw another slate.
    for seed in range(50):
        order, _ = choose(LOGITS, ITEMS, seed, SOFTMAX)
        moved, _ = choose(LOGITS[::-1], ITEMS[::-1], seed, SOFTMAX)
        assert [ITEMS[i] for i in order] == [ITEMS[::-1][i] for i in moved]


def test_greedy_orders_by_logit_with_ties_in_retrieval_order():
    order, propensities = choose(
        np.array([0.1, 0.7, 0.1, 0.9]), list("abcd"), 9, GREEDY
    )
    assert order.tolist() == [3, 1, 0, 2]
    assert propensities.tolist() == [1.0] * 4


def made_beliefs(rng, num_items):
    """Returns beliefs as a ranker's signature `posterior` gives them, by row."""
    slopes = rng.normal(size=[num_items, 3])
    return {
        "means": rng.normal(size=num_items),
        "deviations": rng.uniform(0.2, 1.5, num_items),
        "shared_deviations": np.tile(rng.uniform(0.2, 1.0, 3), [num_items, 1]),
        "slopes": slopes,
        "variances": rng.uniform(1.0, 2.0, num_items),
        "variance_slopes": 0.1 * slopes,
        "variance_curvatures": rng.uniform(0.1, 0.5, [num_items, 3]),
    }


POLICIES = {
    "greedy": GREEDY,
    "softmax": SOFTMAX,
    "epsilon-greedy": EPSILON_GREEDY,
    "softmax with a floor": FLOORED,
    "ucb": PolicySettings(name=PolicyName.UCB),
    "thompson": PolicySettings(name=PolicyName.THOMPSON, epsilon=0.1),
    "thompson by logit": PolicySettings(name=PolicyName.THOMPSON, draw="logit"),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_choose_is_what_the_fused_graph_does(policy):
    rng = np.random.default_rng(1)
    ids = [f"item-{i}" for i in range(25)]
    keys = tf.strings.to_hash_bucket_fast(ids, 2**62)
    logits, seeds = rng.normal(size=[20, 25]), np.arange(20)
    beliefs = [made_beliefs(rng, 25) for _ in seeds]
    fused_beliefs = {
        name: tf.constant(np.stack([one[name] for one in beliefs]), tf.float32)
        for name in beliefs[0]
    }
    if policy.draw is Draw.LOGIT or policy.name is PolicyName.UCB:
        del fused_beliefs["shared_deviations"]
    else:
        fused_beliefs["shared_deviations"] = fused_beliefs["shared_deviations"][:, 0]
    if policy.needs_posterior:
        logits = np.stack([one["means"] for one in beliefs])
    fused = select_slate(
        tf.constant(logits),
        tf.ones([20, 25], tf.bool),
        tf.tile(keys[tf.newaxis], [20, 1]),
        tf.constant(seeds, tf.int64),
        policy,
        8,
        12,
        fused_beliefs,
    )
    for row, seed in enumerate(seeds.tolist()):
        order, propensities = choose(
            logits[row], ids, seed, policy, 8, 12, beliefs=beliefs[row]
        )
        assert fused.order[row].numpy().tolist() == order.tolist()
        np.testing.assert_allclose(
            fused.propensities[row], propensities, rtol=1e-4, atol=1e-6
        )


def example(**features) -> bytes:
    out = tf.train.Example()
    for key, value in features.items():
        feature = out.features.feature[key]
        if isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            values = [value] if isinstance(value, str) else value
            feature.bytes_list.value.extend(v.encode() for v in values)
    return out.SerializeToString(deterministic=True)


QUERY = example(
    user_id="u",
    history_item_ids=["i1", "i2"],
    user_age=30.0,
    context_hour="9",
    item_id="old",
    item_title="Old",
    item_price=9.0,
    item_counts=9.0,
)
ITEM = example(
    item_id="new", item_title="New", popularity=3.0, item_tags=["x"], item_counts=2.0
)
JOINED = example(
    user_id="u",
    history_item_ids=["i1", "i2"],
    user_age=30.0,
    context_hour="9",
    item_id="new",
    item_title="New",
    item_tags=["x"],
    item_counts=2.0,
)


def check_join(join) -> None:
    """The checker: the query's side stays, the item's side is the candidate's alone."""
    joined = tf.train.Example.FromString(join(QUERY, ITEM, CATALOG))
    assert joined == tf.train.Example.FromString(JOINED)


def test_joined_example_has_no_feature_of_the_querys_own_item():
    check_join(join_examples)


def _merged(query, item, catalog):
    joined = tf.train.Example.FromString(query)
    new = tf.train.Example.FromString(item)
    for key, feature in new.features.feature.items():
        joined.features.feature[key].CopyFrom(feature)
    return joined.SerializeToString()


def _appended(query, item, catalog):
    return query + item


@pytest.mark.parametrize("wrong", [_merged, _appended, lambda q, i, c: i])
def test_join_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_join(wrong)


# Five items on a line of falling similarity; the ranker's order is another.
IDS = ["a", "b", "c", "d", "e"]
SIMILARITY = [0.9, 0.8, 0.7, 0.6, 0.5]
CLICK = {"a": 0.1, "b": 0.2, "c": 0.7, "d": 0.6, "e": 0.99}


def models_with(click=CLICK) -> OfflineModels:
    def embed_query(examples):
        return {"embeddings": tf.constant([[1.0, 0.0]] * len(examples))}

    def rank(examples):
        parsed = [tf.train.Example.FromString(e) for e in examples.numpy()]
        items = [p.features.feature["item_id"].bytes_list.value[0] for p in parsed]
        assert all("user_age" in p.features.feature for p in parsed)
        clicks = np.array([click[item.decode()] for item in items])
        return {"logits": tf.constant(np.log(clicks / (1 - clicks)), tf.float32)}

    vectors = np.stack([SIMILARITY, np.ones(5)], axis=1).astype(np.float32)
    items = np.array([example(item_id=item) for item in IDS], object)
    return OfflineModels(embed_query, rank, ItemVectors(IDS, vectors), items)


def slate(
    history=(),
    exclude=(),
    k=2,
    num_candidates=3,
    click=CLICK,
    policy=GREEDY,
    query=QUERY,
):
    return recommend_offline(
        models_with(click),
        query,
        history,
        exclude,
        k,
        7,
        num_candidates,
        policy,
        CATALOG,
    )


def check_slate(recommend) -> None:
    """The checker, by hand: retrieve by similarity, drop, rank by click, cut to k."""
    assert recommend().item_ids == ["c", "b"]  # e and d are not among the three
    assert recommend(num_candidates=5).item_ids == ["e", "c"]
    assert recommend(history=["c"]).item_ids == ["d", "b"]
    assert recommend(exclude=["c", "a"]).item_ids == ["e", "d"]
    assert recommend(history=["a"], exclude=["b", "?"]).item_ids == ["e", "c"]
    seeded = example(user_id="u", user_age=30.0, context_page="c")
    assert recommend(query=seeded).item_ids == ["d", "b"]
    assert recommend(k=4, num_candidates=1).item_ids == ["c", "d", "b", "a"]
    assert recommend(k=9).item_ids == ["e", "c", "d", "b", "a"]
    np.testing.assert_allclose(recommend().scores, [0.7, 0.2], rtol=1e-6)


def test_slate_by_hand():
    check_slate(slate)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda **request: slate(**{**request, "exclude": ()}),
        lambda **request: slate(**{**request, "history": ()}),
        lambda **request: slate(**{**request, "query": QUERY}),
        lambda **request: slate(**{**request, "num_candidates": 5}),
        lambda **request: slate(**request, click={i: 1 - CLICK[i] for i in IDS}),
    ],
    ids=["exclusions", "history", "seed item", "candidates", "ranker upside down"],
)
def test_slate_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_slate(wrong)


def test_softmax_slate_has_the_chances_among_all_candidates():
    shown = slate(num_candidates=5, k=2, policy=SOFTMAX)
    logits = [math.log(CLICK[i] / (1 - CLICK[i])) for i in IDS]
    order = [IDS.index(item) for item in shown.item_ids]
    expected = plackett_luce(order, logits, 0.5)
    np.testing.assert_allclose(shown.propensities, expected, rtol=1e-5)


def test_user_who_has_met_everything_broke_the_comparison():
    shown = slate(history=IDS)
    assert shown.item_ids == []
    assert len(shown.scores) == len(shown.propensities) == 0


def test_saturated_scores_could_not_be_told_apart():
    # A float32 sigmoid is exactly 1 from a logit of about 17 on: ranking by it would
    # leave the order of a sharp model's best items to chance.
    logits = {"a": 20.0, "b": 30.0, "c": 40.0, "d": 1.0, "e": 0.0}

    def rank(examples):
        parsed = [tf.train.Example.FromString(e) for e in examples.numpy()]
        items = [p.features.feature["item_id"].bytes_list.value[0] for p in parsed]
        return {"logits": tf.constant([logits[item.decode()] for item in items])}

    models = dataclasses.replace(models_with(), rank=rank)
    shown = recommend_offline(models, QUERY, (), (), 3, 7, 5, SOFTMAX, CATALOG)
    assert shown.item_ids == ["c", "b", "a"]
    assert np.isfinite(shown.propensities).all()
    assert shown.propensities[0] == pytest.approx(1.0, abs=1e-8)
    np.testing.assert_allclose(shown.scores, 1.0, atol=1e-8)
