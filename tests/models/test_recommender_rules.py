"""Windows, caps and k of many requests: whatever is left out, there are still k."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from models.policy_settings import PolicyName, PolicySettings
from models.recommender_items import Caps, ItemFacts, Windows
from serving.saved_model import SavedModel
from tests.models import recommender_world as world

INDEXES = {
    "exact": lambda: None,
    "scann": world.scann_index,
    "short": lambda: world.ShortIndex(2),
}
N = world.NUM_ITEMS
# Items 0 to 4 are over at 1000, 5 to 8 begin then; 9 has no bound, 10 is over before it
# begins, 11 is shown from 500 to 2000.
BEGIN = np.array([-1] * 5 + [1000] * 4 + [-1, 900, 500])
END = np.array([1000] * 5 + [-1] * 4 + [-1, 800, 2000])
USERS = [([], 0.3), (["item9"], 2.0), ([], -1.0)]


def _allowed(now):
    """By hand: item i may be shown at t if begin <= t < end."""
    return {
        f"item{i}"
        for i in range(N)
        if now <= 0 or (BEGIN[i] <= now and (END[i] < 0 or now < END[i]))
    }


def _expected(user, now, k, exclude=()):
    lost = set(world.ITEM_IDS) - _allowed(now)
    ranked = world.slow_ranking(*user, [*exclude, *lost], k)
    return [world.ITEM_IDS[row].encode() for row, _ in ranked][:k]


def check_windows(module, k=6):
    """Each user, at a moment of its own, gets the best of what may be shown then."""
    for moments in ([999, 1000, 0], [2000, 1, -5], [850, 500, 499]):
        inputs = world.request(USERS, None, k)
        answer = module.recommend(
            inputs,
            inputs["exclude_item_ids"],
            inputs["k"],
            inputs["seed"],
            tf.constant(moments, tf.int64),
        )
        for row, (user, now) in enumerate(zip(USERS, moments, strict=True)):
            items = answer["item_ids"][row].numpy().tolist()
            expected = _expected(user, now, k)
            assert items == expected + [b""] * (k - len(expected))
            shown = answer["propensities"][row].numpy() > 0
            assert shown.tolist() == [item != b"" for item in items]


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_an_item_outside_its_window_never_comes_back(index):
    facts = ItemFacts(windows=Windows.of(BEGIN, END))
    check_windows(world.recommender(index(), facts=facts))


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (BEGIN, np.where(END > 0, END + 1, END)),  # the end counts
        (np.where(BEGIN > 0, BEGIN + 1, BEGIN), END),  # the begin does not
        (BEGIN, np.full(N, -1)),
        (np.full(N, -1), np.full(N, -1)),
    ],
)
def test_window_checker_rejects(begin, end):
    facts = ItemFacts(windows=Windows.of(begin, end))
    with pytest.raises(AssertionError):
        check_windows(world.recommender(facts=facts))


def test_windows_leave_an_answer_as_it_was_where_no_moment_is_given():
    inputs = world.request(USERS, None, 6)
    plain, timed = (
        world.recommender(facts=facts).signatures()["recommend"](**inputs)
        for facts in (ItemFacts(), ItemFacts(windows=Windows.of(BEGIN, END)))
    )
    assert plain["item_ids"].numpy().tolist() == timed["item_ids"].numpy().tolist()


# The five items nearest to a taste of 0.3 are of one genre; the farthest have none.
GENRES = [["a"]] * 4 + [
    ["b"],
    ["b", "c"],
    ["c"],
    [],
    [""],
    ["d"],
    ["d", "a"],
    ["a", "a"],
]
CAPS = Caps.of([(2, GENRES)])
CAPPED = PolicySettings(name=PolicyName.GREEDY, caps={"genre": 2})


def check_caps(module, k=6, exclude=(), users=USERS):
    """k items, if the catalogue has as many under the cap, and none beyond it."""
    inputs = world.request(users, [list(exclude)] * len(users), k)
    answer = module.recommend(
        inputs, inputs["exclude_item_ids"], inputs["k"], inputs["seed"]
    )
    for items, (history, _) in zip(answer["item_ids"].numpy(), users, strict=True):
        rows = [world.ITEM_IDS.index(item.decode()) for item in items if item]
        counts = [sum(genre in GENRES[row] for row in rows) for genre in "abcd"]
        assert max(counts) <= 2
        assert len(rows) == len(set(rows)) == k
        shown = {world.ITEM_IDS[row] for row in rows}
        assert not shown & {*history, *exclude}


@pytest.mark.parametrize("index", INDEXES.values(), ids=INDEXES)
def test_a_slate_is_filled_up_where_a_cap_takes_all_near_items(index):
    """Five items are ranked, and of the five nearest the cap leaves three."""
    module = world.recommender(index(), CAPPED, facts=ItemFacts(caps=CAPS))
    check_caps(module)
    check_caps(module, 5, ["item4", "item7"])


def _seen_as(genres):
    """Returns caps by other values than those that count."""
    return ItemFacts(caps=Caps.of([(2, genres)]))


@pytest.mark.parametrize(
    ("policy", "facts"),
    [
        (world.GREEDY, ItemFacts()),
        (CAPPED, _seen_as([genres[:1] for genres in GENRES[::-1]])),
        (CAPPED, _seen_as([["a"]] * N)),
    ],
)
def test_cap_checker_rejects(policy, facts):
    with pytest.raises(AssertionError):
        check_caps(world.recommender(policy=policy, facts=facts))


@pytest.mark.parametrize("name", ["softmax", "epsilon_greedy"])
def test_whatever_a_policy_draws_the_slate_is_full(name):
    epsilon = 0.5 if name == "epsilon_greedy" else 0.0
    policy = PolicySettings(
        name=name, epsilon=epsilon, temperature=2.0, caps={"genre": 2}
    )
    module = world.recommender(policy=policy, facts=_single())
    inputs = world.request([([], 0.3)] * 200, None, 6)
    recommend, propensities = (
        module.signatures()[key] for key in ("recommend", "propensities")
    )
    answer = recommend(**inputs)
    items = answer["item_ids"].numpy()
    assert (items != b"").all() and len({tuple(row) for row in items}) > 20
    genre_of = {f"item{n}".encode(): genres for n, genres in enumerate(SINGLE)}
    for row in items:
        of_slate = [genre for item in row for genre in genre_of[item]]
        assert max(map(of_slate.count, of_slate)) <= 2
    given = propensities(**inputs, slate_item_ids=answer["item_ids"])
    np.testing.assert_allclose(given["propensities"], answer["propensities"], 1e-5)


# With one genre an item, any order of drawing fills the slate.
SINGLE = [["a"]] * 5 + [["b"]] * 4 + [["c"], ["d"], []]


def _single():
    return ItemFacts(caps=Caps.of([(2, SINGLE)]))


def test_the_answer_is_diverse_by_the_items_vectors():
    policy = PolicySettings(diversity={"relevance": 0.2})
    module = world.recommender(policy=policy, facts=ItemFacts(vectors=world.VECTORS))
    inputs = world.request([([], 0.3)], None, 4)
    answer = module.signatures()["recommend"](**inputs)
    ranked = dict(world.slow_ranking([], 0.3, [], 5))
    shown = []
    while len(shown) < 4:
        left = [row for row in ranked if row not in shown]

        def value(row):
            cosines = [world.VECTORS[row] @ world.VECTORS[above] for above in shown]
            return 0.2 * ranked[row] - 0.8 * max(cosines, default=0.0)

        shown.append(max(left, key=value))
    assert shown != list(ranked)[:4]
    items = [world.ITEM_IDS[row].encode() for row in shown]
    assert answer["item_ids"][0].numpy().tolist() == items
    np.testing.assert_array_equal(answer["propensities"], [[1, 1, 1, 1]])


@pytest.mark.parametrize(
    "policy", [world.GREEDY, world.SOFTMAX], ids=["greedy", "soft"]
)
def test_k_of_each_row_gives_what_each_gets_alone(policy):
    """More candidates are ranked for a larger k: the neighbour's must not count."""
    sizes = [2, 9, 0]
    recommend = world.recommender(policy=policy).signatures()["recommend"]
    inputs = world.request(USERS, None, sizes)
    together = {key: v.numpy() for key, v in recommend(**inputs).items()}
    assert together["item_ids"].shape == (3, 9)
    for row, size in enumerate(sizes):
        one = world.request([USERS[row]], None, size, [row]) | {
            "user_id": inputs["user_id"][row : row + 1]
        }
        alone = recommend(**one)
        items = together["item_ids"][row]
        assert items[:size].tolist() == alone["item_ids"][0].numpy().tolist()
        assert set(items[size:]) <= {b""}
        for name in ("scores", "propensities"):
            np.testing.assert_allclose(
                together[name][row, :size], alone[name][0], rtol=1e-5
            )
            assert not together[name][row, size:].any()


def test_k_of_another_number_of_rows_is_refused():
    inputs = world.request(USERS, None, [2, 3])
    with pytest.raises(tf.errors.InvalidArgumentError):
        world.recommender().signatures()["recommend"](**inputs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("root") / "recommender" / "17"
    facts = ItemFacts(windows=Windows.of(BEGIN, END), caps=CAPS)
    module = world.recommender(policy=CAPPED, facts=facts)
    tf.saved_model.save(module, str(path), signatures=module.signatures())
    return path


@pytest.mark.parametrize(
    ("folder", "release"),
    [("17", 17), ("1700000000", 1700000000), ("bundle", 0), ("7b", 0)],
)
def test_the_release_is_the_number_of_the_folder(saved, folder, release):
    """So that it stays true of a copy: a release that is refreshed or taken back to."""
    path = saved.parent / folder
    if path != saved:
        shutil.copytree(saved, path)
    model = SavedModel(path)
    inputs = {k: v.numpy() for k, v in world.request(USERS, None, 3).items()}
    inputs["now"] = np.array([1000, 999, 0])
    answer = model.run("recommend_at", inputs)
    assert answer["release"].tolist() == [release] * 3
    for row, now in enumerate(inputs["now"]):
        shown = {item.decode() for item in answer["item_ids"][row]}
        assert len(shown) == 3 and shown <= _allowed(now)
    model.close()
