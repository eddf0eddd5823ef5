"""What a release would have shown, against its own slates drawn thousands of times."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from components.policy_log import ShownRows, query_inputs, read_shown, requests_of
from components.release_policy import NoPolicyError, ReleasePolicy
from models.bandit.slates import SlateModel
from models.recommender_items import ItemFacts, Windows
from schemas.features import Feature, FeatureCatalog, FeatureKind
from tests.models import recommender_world as world

RAW_SPEC = {
    "user_id": tf.io.FixedLenFeature([], tf.string),
    "history_item_ids": tf.io.VarLenFeature(tf.string),
    "user_taste": tf.io.VarLenFeature(tf.float32),
}
TASTES = (0.3, 1.4)
DRAWS = 4000


def _example(user, taste, history=(), **more):
    def of_bytes(values):
        encoded = [value.encode() for value in values]
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))

    def of_floats(*values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    features = {
        "user_id": of_bytes([user]),
        "history_item_ids": of_bytes(history),
        "user_taste": of_floats(taste),
    }
    for key, value in more.items():
        if isinstance(value, str):
            features[key] = of_bytes([value])
        elif isinstance(value, float):
            features[key] = of_floats(value)
        else:
            ints = tf.train.Int64List(value=[value])
            features[key] = tf.train.Feature(int64_list=ints)
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def _rows(items, positions, requests, tastes):
    users = [f"u{request}" for request in requests]
    serialized = [_example(u, t) for u, t in zip(users, tastes, strict=True)]
    size = len(items)
    return ShownRows(
        np.array([user.encode() for user in users], object),
        np.array([item.encode() for item in items], object),
        *(np.zeros(size), np.zeros(size), np.full(size, 0.5)),
        np.array(positions),
        np.array(requests),
        np.array(serialized, object),
        0,
    )


@pytest.fixture(scope="module")
def module():
    return world.recommender(policy=world.SOFTMAX)


@pytest.fixture(scope="module")
def policy(module):
    signatures = module.signatures()

    def rank(examples):
        taste = tf.io.parse_example(examples, RAW_SPEC)["user_taste"]
        return {"scores": tf.sigmoid(tf.sparse.to_dense(taste)[:, 0])}

    return ReleasePolicy(
        lambda **inputs: signatures["recommend"](**inputs),
        lambda **inputs: signatures["propensities"](**inputs),
        rank,
        RAW_SPEC,
        world.CATALOG,
    )


@pytest.fixture(scope="module")
def drawn(module):
    """Returns {taste: [DRAWS, 3] items} that the recommender shows."""
    found = {}
    for taste in TASTES:
        inputs = {
            "user_id": tf.fill([DRAWS], "u"),
            "history_item_ids": tf.zeros([DRAWS, 0], tf.string),
            "user_taste": tf.fill([DRAWS], taste),
        }
        nothing = tf.zeros([DRAWS, 0], tf.string)
        seeds = tf.range(DRAWS, dtype=tf.int64) + 10**6
        answer = module.recommend(inputs, nothing, tf.constant(3), seeds)
        found[taste] = answer["item_ids"].numpy().astype(str)
    return found


def check_marginal(on_log, drawn):
    """A place's chance whatever is above it is how often the item is there."""
    items, positions, tastes = [], [], []
    for taste in TASTES:
        for position in range(3):
            for item in sorted(set(drawn[taste][:, position])):
                items.append(item)
                positions.append(position)
                tastes.append(taste)
    rows = _rows(items, positions, np.arange(len(items)), tastes)
    found = on_log(rows, SlateModel.INDEPENDENT, 60, 0)
    for row, share in enumerate(found.propensities):
        seen = (drawn[tastes[row]][:, positions[row]] == items[row]).mean()
        error = np.sqrt(max(seen * (1 - seen), 1e-4) / DRAWS)
        # Chances given what is above spread by less than .5; 60 draws are averaged.
        assert abs(share - seen) < 5 * (error + 0.15 / np.sqrt(60))
        if positions[row] == 0:
            assert abs(share - seen) < 5 * error


def test_independent_places_have_their_chance_whatever_is_above(policy, drawn):
    check_marginal(policy.on_log, drawn)


WRONG = {
    "places one down": lambda policy: (
        lambda rows, *rest: policy.on_log(
            dataclasses.replace(rows, positions=(rows.positions + 1) % 3), *rest
        )
    ),
    "everywhere the chance at the top": lambda policy: (
        lambda rows, *rest: policy.on_log(
            dataclasses.replace(rows, positions=rows.positions * 0), *rest
        )
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_marginal_checker_rejects(wrong, policy, drawn):
    with pytest.raises(AssertionError):
        check_marginal(wrong(policy), drawn)


def test_cascade_places_have_their_chance_given_the_slate_above(policy, drawn):
    """The product of a slate's chances is how often the slate is drawn."""
    taste = TASTES[0]
    slates, counts = np.unique(drawn[taste], axis=0, return_counts=True)
    common = np.argsort(-counts)[:5]
    items = slates[common].ravel()
    order = np.random.default_rng(0).permutation(15)
    rows = _rows(
        items[order],
        np.tile(np.arange(3), 5)[order],
        np.repeat(np.arange(5), 3)[order],
        [taste] * 15,
    )
    found = policy.on_log(rows, SlateModel.CASCADE, 2, 0)
    back = np.argsort(order)
    product = found.propensities[back].reshape(5, 3).prod(axis=1)
    seen = counts[common] / DRAWS
    assert (abs(product - seen) < 5 * np.sqrt(seen / DRAWS)).all()


def test_scores_are_the_rankers_and_draws_are_of_the_place(policy, module):
    rows = _rows(["item1", "item2"], [0, 2], [0, 1], TASTES)
    found = policy.on_log(rows, SlateModel.INDEPENDENT, 3, 5)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp(-np.array(TASTES))), 1e-6)
    assert found.drawn_scores.shape == (2, 3)
    logits = world.QUALITY * (1 + abs(np.sin(TASTES[1])))
    known = 1 / (1 + np.exp(-logits))
    assert abs(found.drawn_scores[1][:, None] - known).min(axis=1).max() < 1e-6
    again = policy.on_log(rows, SlateModel.INDEPENDENT, 3, 5)
    np.testing.assert_array_equal(found.drawn_scores, again.drawn_scores)


def test_an_item_that_the_policy_would_not_show_has_no_chance(policy):
    rows = _rows(["no such item", "item1"], [0, 0], [0, 1], TASTES)
    seen = dataclasses.replace(
        rows,
        serialized=np.array(
            [rows.serialized[0], _example("u", TASTES[0], ["item1"])], object
        ),
    )
    found = policy.on_log(seen, SlateModel.INDEPENDENT, 2, 0)
    np.testing.assert_array_equal(found.propensities, 0.0)


def test_many_requests_are_asked_in_parts(policy, monkeypatch):
    rows = _rows(["item1", "item3"] * 5, [1, 0] * 5, np.arange(10), [*TASTES] * 5)
    whole = policy.on_log(rows, SlateModel.INDEPENDENT, 2, 0)
    monkeypatch.setattr("components.release_policy._REQUESTS_AT_ONCE", 3)
    parts = policy.on_log(rows, SlateModel.INDEPENDENT, 2, 0)
    np.testing.assert_allclose(parts.propensities, whole.propensities, rtol=1e-5)
    np.testing.assert_allclose(parts.drawn_scores, whole.drawn_scores, rtol=1e-5)


CLOSES = 1_000  # ms: the moment from which the best item of TASTES[0] may not be shown


@pytest.fixture(scope="module")
def windowed():
    """Returns a greedy policy whose first choice closes, by whether it takes moments."""
    always = np.iinfo(np.int64)
    plain = world.recommender()
    inputs = {
        "user_id": tf.constant(["u0"]),
        "history_item_ids": tf.zeros([1, 0], tf.string),
        "user_taste": tf.constant([TASTES[0]], tf.float32),
    }
    nothing = tf.zeros([1, 0], tf.string)
    seeds = tf.zeros([1], tf.int64)
    first, second = plain.recommend(inputs, nothing, tf.constant(2), seeds)[
        "item_ids"
    ].numpy()[0]
    end = np.full(world.NUM_ITEMS, always.max)
    end[world.ITEM_IDS.index(first.decode())] = CLOSES
    begin = np.full(world.NUM_ITEMS, always.min)
    facts = ItemFacts(Windows.of(begin, end), None, None)
    module = world.recommender(facts=facts)
    signatures = module.signatures()

    def policy(takes_moments):
        suffix = "_at" if takes_moments else ""
        return ReleasePolicy(
            lambda **inputs: signatures[f"recommend{suffix}"](**inputs),
            lambda **inputs: signatures[f"propensities{suffix}"](**inputs),
            lambda examples: {"scores": tf.fill(tf.shape(examples), 0.5)},
            RAW_SPEC,
            world.CATALOG,
            takes_moments,
        )

    policy.module = module
    return policy, first.decode(), second.decode()


def check_windows(policy, first, second):
    """Holds a policy to its choice of the moment of each row."""
    moments = [CLOSES - 1, CLOSES, CLOSES - 1, CLOSES]
    rows = _rows([first, first, second, second], [0] * 4, range(4), TASTES[:1] * 4)
    serialized = [
        _example(f"u{number}", TASTES[0], timestamp=moment)
        for number, moment in enumerate(moments)
    ]
    rows = dataclasses.replace(rows, serialized=np.array(serialized, object))
    found = policy.on_log(rows, SlateModel.INDEPENDENT, 1, 0)
    np.testing.assert_array_equal(found.propensities, [1.0, 0.0, 0.0, 1.0])


def test_a_replay_keeps_to_the_windows_of_the_moment_of_a_row(windowed):
    policy, first, second = windowed
    check_windows(policy(takes_moments=True), first, second)


class OfTheFirstRow(ReleasePolicy):
    def inputs_of(self, examples):
        inputs = super().inputs_of(examples)
        return inputs | {"now": np.full_like(inputs["now"], inputs["now"][0])}


def test_windows_checker_rejects_a_replay_without_moments(windowed):
    policy, first, second = windowed
    with pytest.raises(AssertionError):
        check_windows(policy(takes_moments=False), first, second)
    fields = vars(policy(takes_moments=True))
    with pytest.raises(AssertionError):
        check_windows(OfTheFirstRow(**fields), first, second)


def test_a_release_that_is_gone_or_too_old_says_so(tmp_path, module):
    with pytest.raises(NoPolicyError, match="release 3 has no folder"):
        ReleasePolicy.of_version(tmp_path, 3)
    old = tf.Module()
    serve = tf.function(
        lambda user_id: {"item_ids": user_id},
        input_signature=[tf.TensorSpec([None], tf.string, "user_id")],
    )
    tf.saved_model.save(old, str(tmp_path / "old"), signatures={"recommend": serve})
    with pytest.raises(NoPolicyError, match="signature `propensities`"):
        ReleasePolicy.load(str(tmp_path / "old"), "", None)


# ---------------------------------------------------------------- the log


def test_read_shown_keeps_rows_with_a_propensity(tmp_path):
    common = {"item_id": "a", "reward": 2.0, "timestamp": 7}
    rows = [
        _example("u", 1.0, **common, label=1.0, propensity=0.25, position=2),
        _example("v", 1.0, **common, label=0.5),
        _example("v", 1.0, **common, label=0.5, propensity=1.0),
    ]
    folder = tmp_path / "Split-test"
    folder.mkdir()
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(folder / "data.gz"), options) as writer:
        for row in rows:
            writer.write(row)
    found = read_shown(str(tmp_path), "test")
    assert found.users.tolist() == [b"u", b"v"] and found.num_without == 1
    assert found.labels.tolist() == [1.0, 0.5] and found.rewards.tolist() == [2.0, 2.0]
    assert found.propensities.tolist() == [0.25, 1.0]
    assert found.positions.tolist() == [2, 0]  # 0 where the log has none
    assert found.serialized.tolist() == [rows[0], rows[2]]
    assert not len(read_shown(str(tmp_path), "train").users)


def test_requests_are_one_users_rows_of_one_moment():
    users = np.array([b"a", b"b", b"a", b"a"], object)
    found = requests_of(users, np.array([1, 1, 1, 2]))
    assert len(set(found.tolist())) == 3 and found[0] == found[2]


def test_query_inputs_fill_what_rows_lack():
    catalog = FeatureCatalog(
        user=(
            Feature(name="taste", kind=FeatureKind.NUMERIC),
            Feature(name="city", kind=FeatureKind.CATEGORICAL),
            Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL),
            Feature(name="form", kind=FeatureKind.VECTOR, size=2),
        )
    )
    spec = RAW_SPEC | {
        "user_city": tf.io.VarLenFeature(tf.string),
        "user_tags": tf.io.VarLenFeature(tf.string),
        "user_form": tf.io.VarLenFeature(tf.float32),
    }
    rows = [_example("u", 1.5, ["x", "y"], user_city="Bern"), _example("v", 2.5, ["z"])]
    found = query_inputs(np.array(rows, object), spec, catalog)
    assert found["user_id"].tolist() == [b"u", b"v"]
    assert found["history_item_ids"].tolist() == [[b"x", b"y"], [b"z", b""]]
    assert found["user_taste"].tolist() == [1.5, 2.5]
    assert found["user_city"].tolist() == [b"Bern", b""] or found[
        "user_city"
    ].tolist() == [b"Bern", ""]
    assert found["user_tags"].shape[0] == 2 and found["user_form"].shape == (2, 2)
    assert np.isnan(found["user_form"]).all()
