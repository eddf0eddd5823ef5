import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.policy_settings import PolicyName, PolicySettings
from schemas.features import Feature, FeatureKind
from tests import reference
from tests.models import recommender_world as world

INDEXES = {
    "exact": lambda: None,
    "scann": world.scann_index,
    "segmented": world.segmented_index,
    "short": lambda: world.ShortIndex(2),
}
NAN = float("nan")
USERS = [
    (["item0", "item3"], 0.3),
    ([], 2.0),
    (["never seen", "item5", "item5"], -1.0),
    (["never seen"], NAN),
    ([f"item{n}" for n in range(11)], 4.0),
]


@pytest.fixture(scope="module", params=INDEXES)
def greedy(request):
    """Returns the greedy `recommend`, as a server calls it, with each index."""
    return _recommend(INDEXES[request.param](), world.GREEDY)


@pytest.fixture(scope="module")
def exploring():
    """Returns the softmax `recommend` over the exact index."""
    return _recommend(None, world.SOFTMAX)


def _recommend(index, policy):
    module = world.recommender(index, policy)
    function = module.signatures()["recommend"]

    def recommend(users, exclude=None, k=3, seeds=None):
        inputs = world.request(users, exclude, k, seeds)
        answer = {key: v.numpy() for key, v in function(**inputs).items()}
        assert answer.pop("release").tolist() == [0] * len(users)  # of no folder
        check_contract(answer, users, exclude, k)
        return answer

    recommend.finds_all = not isinstance(index, world.ShortIndex)
    recommend.module = module  # a function holds its variables by weak references only
    return recommend


def check_contract(answer, users, exclude, k):
    """Exactly k distinct, known items that are not excluded, or as many as there are."""
    assert set(answer) == {"item_ids", "scores", "propensities"}
    exclude = exclude or [[]] * len(users)
    width = max(k, 0) if k <= world.NUM_ITEMS else answer["item_ids"].shape[1]
    for values in answer.values():
        assert values.shape == (len(users), width)
    for row, ((history, _), banned) in enumerate(zip(users, exclude, strict=True)):
        items = [item.decode() for item in answer["item_ids"][row]]
        allowed = set(world.ITEM_IDS) - set(history) - set(banned)
        shown = items[: min(width, len(allowed))]
        assert set(shown) <= allowed
        assert len(set(shown)) == len(shown)
        assert set(items[len(shown) :]) <= {""}
        scores, propensities = answer["scores"][row], answer["propensities"][row]
        assert ((scores[: len(shown)] > 0) & (scores[: len(shown)] < 1)).all()
        assert (propensities[: len(shown)] > 0).all() and (propensities <= 1).all()
        assert not scores[len(shown) :].any() and not propensities[len(shown) :].any()


def _good_answer():
    return {
        "item_ids": np.array([[b"item1", b"item2", b""]]),
        "scores": np.array([[0.9, 0.8, 0.0]]),
        "propensities": np.array([[0.5, 1.0, 0.0]]),
    }


ALL_BUT_TWO = [[item for item in world.ITEM_IDS if item not in ("item1", "item2")]]
WRONG_ANSWERS = {
    "an item twice": {"item_ids": np.array([[b"item1", b"item1", b""]])},
    "an excluded item": {"item_ids": np.array([[b"item1", b"item3", b""]])},
    "an unknown item": {"item_ids": np.array([[b"item1", b"other", b""]])},
    "fewer than exist": {"item_ids": np.array([[b"item1", b"", b""]])},
    "too narrow": {"scores": np.array([[0.9, 0.8]])},
    "a tail with a score": {"scores": np.array([[0.9, 0.8, 0.5]])},
    "a tail with a propensity": {"propensities": np.array([[0.5, 1.0, 1.0]])},
    "logits for scores": {"scores": np.array([[2.9, -0.8, 0.0]])},
}


def test_contract_checker_takes_a_right_answer():
    check_contract(_good_answer(), [([], 0.0)], ALL_BUT_TWO, 3)


@pytest.mark.parametrize("wrong", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_contract_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_contract(_good_answer() | wrong, [([], 0.0)], ALL_BUT_TWO, 3)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 12, 30])
def test_greedy_answer_equals_the_slow_computation(greedy, k):
    # A short index answers right where it has k items, and asks the exact one elsewhere.
    exclude = [["item7", "item7", "?"], [], ["", "item1"], [], ["item11"]]
    answer = greedy(USERS, exclude, k)
    for row, ((history, taste), banned) in enumerate(zip(USERS, exclude, strict=True)):
        expected = world.slow_ranking(history, taste, banned, k)[:k]
        items = answer["item_ids"][row]
        if greedy.finds_all or k > 2:
            shown = [world.ITEM_IDS[item].encode() for item, _ in expected]
            assert items[: len(shown)].tolist() == shown
            scores = 1 / (1 + np.exp(-np.array([logit for _, logit in expected])))
            np.testing.assert_allclose(
                answer["scores"][row, : len(shown)], scores, rtol=1e-5
            )
        np.testing.assert_array_equal(answer["propensities"][row], items != b"")


def test_softmax_answer_equals_the_slow_computation(exploring):
    users = USERS[:4]
    seeds = [5, -7, 2**62, 0]
    keys = tf.strings.to_hash_bucket_fast(world.ITEM_IDS, 2**62).numpy().tolist()
    for k in (2, 4, 12):
        answer = exploring(users, None, k, seeds)
        for row, (history, taste) in enumerate(users):
            ranking = world.slow_ranking(history, taste, [], k)
            rows, logits = zip(*ranking, strict=True)
            order, propensities = reference.softmax_slate(
                list(logits),
                [True] * len(rows),
                [keys[item] for item in rows],
                seeds[row],
                0.5,
            )
            shown = [world.ITEM_IDS[rows[column]].encode() for column in order][:k]
            assert answer["item_ids"][row, : len(shown)].tolist() == shown
            np.testing.assert_allclose(
                answer["propensities"][row, : len(shown)], propensities[:k], rtol=1e-5
            )


def test_same_seed_same_answer_and_another_seed_another(exploring):
    users = [([], 1.0)] * 50
    first = exploring(users, None, 3, list(range(50)))
    again = exploring(users, None, 3, list(range(50)))
    for key, values in first.items():
        np.testing.assert_array_equal(values, again[key])
    assert len({tuple(items) for items in first["item_ids"]}) > 1
    same = exploring(users, None, 3, [9] * 50)
    assert len({tuple(items) for items in same["item_ids"]}) == 1


@pytest.mark.parametrize(
    ("users", "exclude"),
    [
        ([([], 0.0)], [[]]),  # T = 0 and E = 0
        ([([], 0.0)], [["item1"]]),
        ([(["item1"], 0.0)], [[]]),
        ([(["", ""], 0.0)], [["", ""]]),
        ([(["?", "??"], 0.0)], [["???"]]),
        ([([], 0.0)], [world.ITEM_IDS]),
        ([(world.ITEM_IDS, 0.0)], [world.ITEM_IDS]),
        ([([], 0.0), ([], 0.0)], [world.ITEM_IDS, []]),
        ([([], 0.0)], [["item1"] * 40]),
        ([(["item2"] * 40, 0.0)], [["item2", "item3"] * 9]),
        ([], None),  # B = 0
    ],
)
@pytest.mark.parametrize("k", [0, 1, 12, 40])
def test_every_request_gets_an_answer(greedy, users, exclude, k):
    greedy(users, exclude, k)


@pytest.mark.parametrize("k", [-1, -(2**31)])
def test_a_negative_k_counts_as_0(greedy, k):
    assert greedy(USERS, None, k)["item_ids"].shape == (len(USERS), 0)


@pytest.mark.parametrize("k", [10**9, 2**31 - 1])
def test_a_huge_k_is_answered_in_bounded_width(greedy, k):
    answer = greedy(USERS, None, k)
    assert answer["item_ids"].shape[1] == world.NUM_ITEMS + 1000
    assert (answer["item_ids"][1] != b"").sum() == world.NUM_ITEMS


@pytest.mark.parametrize("index", [None, world.ShortIndex(4)], ids=["exact", "short"])
def test_a_user_is_answered_alike_alone_and_in_any_batch(index):
    """A row that the index was short for sent the whole batch to the exact one."""
    recommend = _recommend(index, world.SOFTMAX)
    exclude = [[], ["item3", "item4", "item5"], [], [], ["item11"]]
    together = recommend(USERS, exclude, 3)
    for row in range(len(USERS)):
        alone = recommend([USERS[row]], [exclude[row]], 3, [row])
        for key, values in together.items():
            np.testing.assert_allclose(
                alone[key][0]
                if values.dtype != object
                else alone[key][0] == values[row],
                values[row] if values.dtype != object else True,
                rtol=1e-5,
            )


def test_an_index_that_comes_up_short_is_helped_by_the_exact_one():
    recommend = _recommend(world.ShortIndex(2), world.GREEDY)
    answer = recommend([([], 0.3)], None, 6)
    expected = [
        world.ITEM_IDS[row].encode() for row, _ in world.slow_ranking([], 0.3, [], 6)
    ]
    assert answer["item_ids"][0].tolist() == expected


def test_an_index_that_finds_enough_is_left_alone():
    """Two found are enough for k = 2, though more would have been ranked."""
    recommend = _recommend(world.ShortIndex(2), world.GREEDY)
    answer = recommend([([], 0.3)], None, 2)
    nearest = np.argsort(-world.VECTORS @ [np.cos(0.3), np.sin(0.3)])[:2]
    assert set(answer["item_ids"][0]) == {f"item{row}".encode() for row in nearest}


SEEDS = ["item1", "item2", "", "never seen"]


def check_seeds(recommend):
    """The checker: a row's own seed item does not come back; all else stays.

    Args:
        recommend: (recommender over a catalogue with a seed item, inputs) -> item ids.
    """
    page = Feature(name="page", kind=FeatureKind.ITEM_ID)
    liked = Feature(name="liked", kind=FeatureKind.ITEM_ID)
    catalog = world.CATALOG.model_copy(
        update={"context": (page,), "user": (*world.CATALOG.user, liked)}
    )
    module = world.recommender(catalog=catalog)
    inputs = world.request([([], 0.3)] * 4) | {
        "context_page": tf.constant(SEEDS),
        "user_liked": tf.constant(["item3"] * 4),  # no seed: it may come back
    }
    seen = recommend(module, inputs).numpy().astype(str).tolist()
    for items, seed in zip(seen, SEEDS, strict=True):
        ranked = world.slow_ranking([], 0.3, [seed], 5)
        assert items == [world.ITEM_IDS[row] for row, _ in ranked]


def _recommend_5(module, inputs):
    seeds = tf.range(4, dtype=tf.int64)
    return module.recommend(inputs, inputs["exclude_item_ids"], 5, seeds)["item_ids"]


def _seed_ignored(module, inputs):
    nothing = tf.fill([4], "")
    return _recommend_5(module, inputs | {"context_page": nothing})


def _seed_of_another_row(module, inputs):
    pages = tf.reverse(inputs["context_page"], [0])
    return _recommend_5(module, inputs | {"context_page": pages})


def _likes_left_out(module, inputs):
    liked = inputs["user_liked"][:, tf.newaxis]
    return _recommend_5(module, inputs | {"exclude_item_ids": liked})


def test_a_seed_item_does_not_come_back():
    check_seeds(_recommend_5)


@pytest.mark.parametrize(
    "wrong", [_seed_ignored, _seed_of_another_row, _likes_left_out]
)
def test_seed_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_seeds(wrong)


def test_serving_default_returns_the_default_number_of_items():
    module = world.recommender(policy=world.SOFTMAX)
    inputs = world.request(USERS)
    function = module.signatures()["serving_default"]
    query = {key: inputs[key] for key in ("user_id", "history_item_ids", "user_taste")}
    answers = []
    for _ in range(20):
        answer = {key: values.numpy() for key, values in function(**query).items()}
        del answer["release"]
        check_contract(answer, USERS, None, world.DEFAULT_K)
        answers.append(answer["item_ids"][1].tolist())
    assert len({tuple(items) for items in answers}) > 1  # nobody fixed its seed


def test_signatures_are_those_of_the_serving_contract():
    signatures = world.recommender().signatures()
    query = {"user_id", "history_item_ids", "user_taste"}
    inputs = {
        name: {spec.name for spec in function.structured_input_signature[1].values()}
        | {
            spec.name
            for spec in tf.nest.flatten(function.structured_input_signature[0])
        }
        for name, function in signatures.items()
    }
    assert inputs == {
        "serving_default": query,
        "recommend": query | {"exclude_item_ids", "k", "seed"},
        "recommend_at": query | {"exclude_item_ids", "k", "seed", "now"},
        "propensities": query | {"exclude_item_ids", "k", "seed", "slate_item_ids"},
        "propensities_at": query
        | {"exclude_item_ids", "k", "seed", "now", "slate_item_ids"},
    }


EPSILON_GREEDY = PolicySettings(name=PolicyName.EPSILON_GREEDY, epsilon=0.3)


@pytest.mark.parametrize("policy", [world.GREEDY, world.SOFTMAX, EPSILON_GREEDY])
def test_propensities_of_an_answer_are_those_that_it_came_with(policy):
    module = world.recommender(policy=policy)
    signatures = module.signatures()
    inputs = world.request(USERS, [["item7"], [], [], [], ["item11"]], 4)
    answer = signatures["recommend"](**inputs)
    slates = {"slate_item_ids": answer["item_ids"]}
    given = signatures["propensities"](**inputs, **slates)["propensities"]
    np.testing.assert_allclose(given, answer["propensities"], rtol=1e-6)
    # Excluded, unknown, not named, and at a place that is not filled.
    others = tf.tile([["item7", "?", "", "item11", "item5"]], [len(USERS), 1])
    given = signatures["propensities"](**inputs, slate_item_ids=others)["propensities"]
    assert given.shape == (len(USERS), 5)
    np.testing.assert_array_equal(given[0, 0], 0)
    np.testing.assert_array_equal(given[:, 1:3], 0)
    np.testing.assert_array_equal(given[:, 4], 0)


RELOAD = """
import sys
import numpy as np
import tensorflow as tf
if sys.argv[2] == "scann":
    from scann.scann_ops.py import scann_ops
loaded = tf.saved_model.load(sys.argv[1])
rows = np.load(sys.argv[1] + "/in.npz")
text = ("user_id", "history_item_ids", "exclude_item_ids")
inputs = {
    key: tf.constant(rows[key].astype(object) if key in text else rows[key])
    for key in rows.files
}
answer = loaded.signatures["recommend"](**inputs)
np.savez(sys.argv[1] + "/out.npz", **{
    key: value.numpy().astype("S") if key == "item_ids" else value.numpy()
    for key, value in answer.items()
})
"""


@pytest.mark.component
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_saved_and_reloaded_in_a_fresh_process_it_answers_alike(kind, tmp_path):
    recommend = _recommend(INDEXES[kind](), world.SOFTMAX)
    module = recommend.module
    expected = recommend(USERS, None, 4)
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    path = str(tmp_path / "model")
    tf.saved_model.save(module, path, signatures=module.signatures(), options=options)
    inputs = {key: v.numpy() for key, v in world.request(USERS, None, 4).items()}
    np.savez(
        f"{path}/in.npz",
        **{k: v.astype("S") if v.dtype == object else v for k, v in inputs.items()},
    )
    process = subprocess.run(
        [sys.executable, "-c", RELOAD, path, kind], capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    answer = np.load(f"{path}/out.npz")
    assert answer["item_ids"].tolist() == expected["item_ids"].tolist()
    for key in ("scores", "propensities"):
        np.testing.assert_allclose(answer[key], expected[key], rtol=1e-5)


def _beliefs(query, candidates):
    """Returns what a ranker with a posterior would: surer of the better items."""
    means = candidates["quality_xf"] + 0.0 * query["user_taste_xf"][:, tf.newaxis]
    return {"means": means, "deviations": 0.5 + tf.exp(-means)}


def test_thompson_answers_with_propensities_and_their_errors():
    policy = PolicySettings(name=PolicyName.THOMPSON, draw="logit", epsilon=0.05)
    module = world.recommender(policy=policy, beliefs=_beliefs)
    recommend, propensities = (
        module.signatures()[name] for name in ("recommend", "propensities")
    )
    inputs = world.request([([], 0.4)] * 300, None, 4)
    answer = {key: values.numpy() for key, values in recommend(**inputs).items()}
    errors = answer.pop("propensity_errors")
    del answer["release"]
    check_contract(answer, [([], 0.4)] * 300, None, 4)
    assert errors.shape == (300, 4) and (errors[:, :2] > 0).all()
    assert len({tuple(items) for items in answer["item_ids"]}) > 10
    given = propensities(**inputs, slate_item_ids=tf.constant(answer["item_ids"]))
    np.testing.assert_allclose(given["propensities"], answer["propensities"], rtol=1e-4)
    # The share of an item at the first place, by count and by the mean propensity.
    first = answer["item_ids"][:, 0]
    for item in np.unique(first):
        slates = tf.constant(np.full([300, 1], item))
        chances = propensities(**inputs, slate_item_ids=slates)["propensities"].numpy()
        share = (first == item).mean()
        assert abs(share - chances.mean()) < 5 * np.sqrt(chances.mean() / 300)
