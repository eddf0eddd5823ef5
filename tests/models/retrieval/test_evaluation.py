import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retrieval.evaluation import (
    Interactions,
    Ranking,
    bootstrap_interval,
    item_knn_similarity,
    ndcg_at,
    popularity_scores,
    rank_events,
    ranks_of_positives,
    recall_at,
    recent_rows,
    reciprocal_ranks,
    rows_per_chunk,
)
from tests import reference
from tests.models.retrieval import evaluation_reference

# ranks_of_positives


def _ranked(ranks_of, scores, positives, seen):
    scores = np.asarray(scores, np.float64)
    rows = np.arange(len(scores))
    seen = [np.array(items, np.int64) for items in seen]
    return ranks_of(lambda chunk: scores[chunk], rows, np.array(positives), seen)


def check_ranks(ranks_of):
    scores = [
        [0.1, 0.9, 0.5, 0.5],  # 2 ties with 3, below 1
        [0.1, 0.9, 0.5, 0.5],  # the same, and 1 is seen
        [0.1, 0.9, 0.5, 0.5],  # the same, and the tie is seen
        [1.0, 1.0, 1.0, 1.0],  # everything ties
        [0.1, 0.9, 0.5, 0.5],  # the held-out item was met before: it stays in
        [0.1, 0.9, 0.5, 0.5],  # not in the catalogue
        [-np.inf, 0.0, 0.0, -np.inf],  # a seen item does not tie at -inf
    ]
    positives = [2, 2, 2, 0, 2, -1, 0]
    seen = [[], [1], [3, 3], [], [2, 1], [1], [3]]
    ranks = _ranked(ranks_of, scores, positives, seen)
    np.testing.assert_array_equal(ranks, [1.5, 0.5, 1, 1.5, 0.5, np.inf, 2])


def _slow(ties=0.5, seen_out=True, unknown=np.inf):
    """Returns the ranks written once more, with ties or seen items counted wrongly."""

    def ranks_of(scorer, rows, positives, seen):
        ranks = []
        for row, positive, items in zip(rows, positives, seen, strict=True):
            scores = scorer(np.array([row]))[0]
            others = [j for j in range(len(scores)) if j != positive]
            if seen_out:
                others = [j for j in others if j not in items]
            rank = sum(scores[j] > scores[positive] for j in others)
            rank += ties * sum(scores[j] == scores[positive] for j in others)
            ranks.append(rank if positive >= 0 else unknown)
        return np.array(ranks)

    return ranks_of


def _met_before_is_out(scorer, rows, positives, seen):
    ranks = ranks_of_positives(scorer, rows, positives, seen)
    again = [p in items for p, items in zip(positives, seen, strict=True)]
    return np.where(again, 4.0, ranks)


def _positive_of_the_last_row(scorer, rows, positives, seen):
    return ranks_of_positives(scorer, rows, np.maximum(positives, 0), seen)


WRONG_RANKS = {
    "ties optimistic": _slow(ties=0),
    "ties pessimistic": _slow(ties=1),
    "seen not excluded": _slow(seen_out=False),
    "item met before ranks last": _met_before_is_out,
    "unknown item is found at the end of a short list": _slow(unknown=4),
    "unknown item ranked as item 0": _positive_of_the_last_row,
}


@pytest.mark.parametrize("ranks_of", [ranks_of_positives, _slow()])
def test_ranks_of_positives_value(ranks_of):
    check_ranks(ranks_of)


@pytest.mark.parametrize("wrong", WRONG_RANKS.values(), ids=WRONG_RANKS)
def test_ranks_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_ranks(wrong)


def test_ranks_of_positives_of_a_diverged_model_are_the_worst():
    """Nothing is above NaN, so a model that scored NaN everywhere was perfect."""
    nan = np.nan
    scores = [[nan, 1.0, 2.0], [nan, nan, nan], [nan, 1.0, 2.0]]
    ranks = _ranked(ranks_of_positives, scores, [0, 0, 1], [[], [], []])
    np.testing.assert_array_equal(ranks, [2, 1, 1])


def test_ranks_of_positives_leaves_the_scores_alone():
    scores = np.array([[1.0, 2.0, np.nan]])
    before = scores.copy()
    _ranked(ranks_of_positives, scores, [0], [[1]])
    np.testing.assert_array_equal(scores, before)


def test_ranks_of_positives_of_many_rows_equals_one_by_one():
    """More rows than are scored at a time."""
    rng = np.random.default_rng(0)
    num_rows = 2500
    scores = rng.integers(0, 5, size=(num_rows, 7))
    positives = rng.integers(-1, 7, size=num_rows)
    seen = [rng.integers(0, 7, size=rng.integers(0, 4)) for _ in range(num_rows)]
    expected = [
        reference.rank_of_positive(list(row), positive, set(items))
        for row, positive, items in zip(scores, positives, seen, strict=True)
    ]
    ranks = _ranked(ranks_of_positives, scores, positives, seen)
    np.testing.assert_array_equal(ranks, expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ranks_of_positives_equals_reference(data):
    num_items = data.draw(st.integers(1, 6))
    item = st.integers(0, num_items - 1)
    score = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, np.inf, np.nan])
    scores = data.draw(st.lists(score, min_size=num_items, max_size=num_items))
    positive = data.draw(st.integers(-1, num_items - 1))
    seen = data.draw(st.lists(item, max_size=5))
    ranks = _ranked(ranks_of_positives, [scores], [positive], [seen])
    assert ranks[0] == reference.rank_of_positive(scores, positive, set(seen))
    # Ranks count others, so a strictly increasing function of the scores changes none.
    moved = 2 * np.array(scores) + 1
    np.testing.assert_array_equal(
        _ranked(ranks_of_positives, [moved], [positive], [seen]), ranks
    )


# Interactions.seen_before


def check_seen_before(seen_before):
    """What u and v met strictly before each of their events, in any order of rows."""
    log = Interactions(
        users=np.array(["u", "v", "u", "u", "u", "v"]),
        items=np.array([0, 1, 2, 3, -1, 4]),
        timestamps=np.array([10, 10, 20, 20, 15, 5]),
    )
    seen = seen_before(log, np.array([2, 0, 1, 3, 5, 4]))
    assert [sorted(items.tolist()) for items in seen] == [[0], [], [4], [0], [], [0]]


def _seen_with(is_seen):
    def seen_before(log, rows):
        out = []
        for row in rows:
            before = is_seen(log, row) & (log.items >= 0)
            before[row] = False
            out.append(log.items[before])
        return out

    return seen_before


WRONG_SEEN = {
    "same instant included": _seen_with(
        lambda log, row: (
            (log.users == log.users[row]) & (log.timestamps <= log.timestamps[row])
        )
    ),
    "future included": _seen_with(lambda log, row: log.users == log.users[row]),
    "of any user": _seen_with(lambda log, row: log.timestamps < log.timestamps[row]),
    "nothing": _seen_with(lambda log, row: np.zeros(len(log.items), bool)),
}


def test_seen_before_value():
    check_seen_before(Interactions.seen_before)


@pytest.mark.parametrize("wrong", WRONG_SEEN.values(), ids=WRONG_SEEN)
def test_seen_before_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_seen_before(wrong)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-1, 4), st.integers(0, 5)),
        min_size=1,
        max_size=20,
    )
)
def test_seen_before_equals_the_double_loop(events):
    users, items, timestamps = (
        np.array(column) for column in zip(*events, strict=True)
    )
    rows = np.arange(len(events))
    seen = Interactions(users, items, timestamps).seen_before(rows)
    for row, (user, _, now) in enumerate(events):
        expected = [i for u, i, t in events if u == user and t < now and i >= 0]
        assert sorted(seen[row].tolist()) == sorted(expected)


# recall, NDCG, intervals


def check_recall(recall):
    ranks = np.array([0, 9, 9.5, 10, 1000])
    np.testing.assert_array_equal(recall(ranks, 10), [1, 1, 1, 0, 0])


def check_ndcg(ndcg):
    ranks = np.array([0, 1, 2, 9, 10])
    expected = [1, 1 / np.log2(3), 1 / 2, 1 / np.log2(11), 0]
    np.testing.assert_allclose(ndcg(ranks, 10), expected, rtol=1e-12)


def check_reciprocal_ranks(reciprocal):
    """The last one is not in the index."""
    ranks = np.array([0, 0.5, 3, 9, np.inf])
    np.testing.assert_allclose(reciprocal(ranks), [1, 2 / 3, 1 / 4, 1 / 10, 0])


@pytest.mark.parametrize(
    ("check", "measure"),
    [
        (check_recall, recall_at),
        (check_ndcg, ndcg_at),
        (check_reciprocal_ranks, reciprocal_ranks),
    ],
)
def test_measure_value(check, measure):
    check(measure)


@pytest.mark.parametrize(
    ("check", "wrong"),
    [
        (check_recall, lambda ranks, k: (ranks <= k) * 1.0),
        (check_recall, lambda ranks, k: (ranks < k) / k),
        (check_ndcg, lambda ranks, k: np.where(ranks < k, 1 / np.log2(ranks + 1.0), 0)),
        (check_ndcg, lambda ranks, k: np.where(ranks < k, 1 / np.log(ranks + 2), 0)),
        (check_ndcg, lambda ranks, k: 1 / np.log2(ranks + 2)),
        (check_reciprocal_ranks, lambda ranks: 1 / np.maximum(ranks, 1)),
        (check_reciprocal_ranks, lambda ranks: 1 / (np.minimum(ranks, 99) + 1)),
        (check_reciprocal_ranks, lambda ranks: (ranks < 9) / (ranks + 1)),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_measure_checkers_reject(check, wrong):
    with pytest.raises(AssertionError):
        check(wrong)


def check_interval(interval):
    """50 users of 40 equal events each: 2,000 events tell as much as 50."""
    rng = np.random.default_rng(3)
    figure = rng.integers(0, 2, size=50).astype(float)
    users = np.repeat([f"user {n}" for n in range(50)], 40)
    low, high = interval(np.repeat(figure, 40), users)
    error = np.sqrt(figure.mean() * (1 - figure.mean()) / 50)
    # A quantile of 1,000 resamples is off by 8 % of the standard error or so.
    assert low == pytest.approx(figure.mean() - 1.96 * error, abs=0.35 * error)
    assert high == pytest.approx(figure.mean() + 1.96 * error, abs=0.35 * error)


WRONG_INTERVALS = {
    "events drawn": lambda values, users: bootstrap_interval(
        values, np.arange(len(values))
    ),
    "one standard error": lambda values, users: tuple(
        values.mean() + (edge - values.mean()) / 1.96
        for edge in bootstrap_interval(values, users)
    ),
}


def test_bootstrap_interval_value():
    check_interval(bootstrap_interval)


@pytest.mark.parametrize("wrong", WRONG_INTERVALS.values(), ids=WRONG_INTERVALS)
def test_interval_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_interval(wrong)


def test_bootstrap_interval_weighs_events_not_users():
    """One user of 99 ones, one of a single zero: a resample of both has mean 0.99."""
    values = np.array([1.0] * 99 + [0.0])
    low, high = bootstrap_interval(values, np.array([0] * 99 + [1]))
    assert (low, high) == (0.0, 1.0)
    middle = bootstrap_interval(np.tile(values, 400), np.repeat(np.arange(800), 50))
    assert middle[0] < 0.99 < middle[1] and middle[1] - middle[0] < 0.03


def test_bootstrap_interval_of_one_user_is_a_point_and_the_seed_repeats():
    values = np.array([0.0, 1.0, 1.0])
    assert bootstrap_interval(values, np.zeros(3)) == pytest.approx((2 / 3, 2 / 3))
    users = np.arange(3)
    assert bootstrap_interval(values, users, 5) == bootstrap_interval(values, users, 5)


# The baselines


def check_popularity(popularity):
    """Item 1 twice, item 3 once, an unknown item, 4 never."""
    scores = popularity(np.array([1, 3, -1, 1, -1]), 5)
    np.testing.assert_array_equal(scores, [0, 2, 0, 1, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda items, n: np.bincount(items % n, minlength=n),  # unknown is the last one
        lambda items, n: np.bincount(np.unique(items[items >= 0]), minlength=n),
        lambda items, n: np.bincount(items[items >= 0]),  # too short
    ],
)
def test_popularity_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_popularity(wrong)


def test_popularity_scores_value():
    check_popularity(popularity_scores)


def check_popularity_is_of_the_past(scores_of):
    """Item 0 led in the train split, item 1 leads in the test split."""
    train, test = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 1, 0])
    scores = scores_of(train, test)
    ranks = _ranked(ranks_of_positives, [scores] * 5, test, [[]] * 5)
    np.testing.assert_array_equal(ranks, [1, 1, 1, 1, 0])


def test_popularity_of_the_train_split_ranks_by_the_past():
    check_popularity_is_of_the_past(lambda train, test: popularity_scores(train, 2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda train, test: popularity_scores(test, 2),
        lambda train, test: popularity_scores(np.concatenate([train, test]), 2),
    ],
)
def test_popularity_of_the_past_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_popularity_is_of_the_past(wrong)


def check_item_knn(similarity):
    """U_0 = {u, v}, U_1 = {u, v, w}, U_2 = {w}, U_3 = {}; u met 0 twice."""
    users = np.array(["u", "u", "v", "u", "v", "w", "w", "u"])
    items = np.array([0, 0, 0, 1, 1, 1, 2, -1])
    actual = np.asarray(similarity(users, items, 4).todense())
    expected = np.zeros([4, 4])
    expected[0, 1] = expected[1, 0] = 2 / np.sqrt(2 * 3)
    expected[1, 2] = expected[2, 1] = 1 / np.sqrt(3 * 1)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    np.testing.assert_allclose(
        actual, reference.cosine_of_users(list(users), list(items), 4), rtol=1e-12
    )


def _with_diagonal(users, items, num_items):
    matrix = item_knn_similarity(users, items, num_items).tolil()
    matrix.setdiag(1.0)
    return matrix


def _counting_repeats(users, items, num_items):
    # Each event counts as an event of a user of its own, u's second one of item 0 too.
    events = [f"{user}{item}" for user, item in zip(users, items, strict=True)]
    again = [events[:row].count(event) for row, event in enumerate(events)]
    users = [f"{user}{count}" for user, count in zip(users, again, strict=True)]
    return item_knn_similarity(np.array(users), items, num_items)


WRONG_KNN = {
    "an item is like itself": _with_diagonal,
    "repeats count": _counting_repeats,
    "not normalised": lambda *args: item_knn_similarity(*args).ceil(),
    "unknown items are the last one": lambda users, items, n: item_knn_similarity(
        users, items % n, n
    ),
}


def test_item_knn_similarity_value():
    check_item_knn(item_knn_similarity)


@pytest.mark.parametrize("wrong", WRONG_KNN.values(), ids=WRONG_KNN)
def test_item_knn_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_item_knn(wrong)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 5)), max_size=30))
def test_item_knn_similarity_equals_reference(events):
    users = np.array([user for user, _ in events], np.int64)
    items = np.array([item for _, item in events], np.int64)
    actual = np.asarray(item_knn_similarity(users, items, 6).todense())
    expected = reference.cosine_of_users(list(users), list(items), 6)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)
    np.testing.assert_array_equal(actual, actual.T)


# rank_events: the lists


def check_lists(rank):
    """Many equal scores, NaN and -inf, lists longer than what is left, by a loop."""
    rng = np.random.default_rng(8)
    levels = np.array([-np.inf, 0.0, 1.0, 2.0, np.nan])
    scores = rng.choice(levels, size=(60, 9), p=[0.1, 0.3, 0.3, 0.2, 0.1])
    seen = [rng.integers(0, 9, size=rng.integers(0, 8)) for _ in range(60)]
    positives = rng.integers(-1, 9, size=60)
    for k in (1, 3, 9, 20):
        top = rank(lambda rows: scores[rows], np.arange(60), positives, seen, k).top
        expected = [
            evaluation_reference.best_items(list(row), set(items.tolist()), k)
            for row, items in zip(scores, seen, strict=True)
        ]
        equal = np.array_equal(top, expected)
        assert equal


def _keeps_what_was_seen(scorer, rows, positives, seen, k):
    return rank_events(scorer, rows, positives, [np.zeros(0, int)] * len(rows), k)


def _keeps_the_held_out_item(scorer, rows, positives, seen, k):
    seen = [items[items != p] for items, p in zip(seen, positives, strict=True)]
    return rank_events(scorer, rows, positives, seen, k)


def _last_of_equals_first(scorer, rows, positives, seen, k):
    flipped = rank_events(
        lambda rows: scorer(rows)[:, ::-1],
        rows,
        positives,
        [8 - items for items in seen],
        k,
    )
    top = np.where(flipped.top >= 0, 8 - flipped.top, -1)
    return Ranking(flipped.ranks, top)


@pytest.mark.parametrize(
    "wrong", [_keeps_what_was_seen, _keeps_the_held_out_item, _last_of_equals_first]
)
def test_lists_are_the_best_unseen_items_and_the_checker_rejects(wrong):
    check_lists(rank_events)
    with pytest.raises(AssertionError):
        check_lists(wrong)


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_each_event_is_scored_once_whatever_the_chunk(chunk_size):
    rng = np.random.default_rng(0)
    scores = rng.random((50, 12), np.float32)
    asked = []

    def scorer(rows):
        asked.extend(rows.tolist())
        return scores[rows]

    rows = np.arange(50)
    positives = rng.integers(-1, 12, size=50)
    seen = [rng.integers(0, 12, size=3) for _ in rows]
    ranking = rank_events(scorer, rows, positives, seen, 5, chunk_size)
    assert asked == list(range(50))
    whole = rank_events(scorer, rows, positives, seen, 5)
    np.testing.assert_array_equal(ranking.ranks, whole.ranks)
    np.testing.assert_array_equal(ranking.top, whole.top)


def test_chunk_of_a_large_index_holds_fewer_events():
    assert rows_per_chunk(3_700) == 1024
    assert rows_per_chunk(10**6) == 16
    assert rows_per_chunk(10**9) == 1
    assert rows_per_chunk(0) == 1024


def test_seen_before_is_a_sequence_that_can_be_cut():
    log = Interactions(
        np.array([1, 1, 1, 2]), np.array([4, -1, 6, 7]), np.array([0, 1, 2, 3])
    )
    seen = log.seen_before(np.array([2, 1, 3]))
    assert len(seen) == 3
    assert [items.tolist() for items in seen[:2]] == [[4], [4]]
    assert seen[2].tolist() == []
    assert seen.num_events.tolist() == [2, 1, 0]  # -1 was an event too


def check_recent(recent) -> None:
    times = np.array([5, 9, 1, 9, 7])
    assert sorted(recent(times, 0.4).tolist()) == [1, 3]
    assert sorted(recent(times, 0.6).tolist()) == [1, 3, 4]
    assert len(recent(times, 0.01)) == 1
    assert sorted(recent(times, 1.0).tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda times, share: np.arange(len(times))[-max(1, int(share * len(times))) :],
        lambda times, share: np.argsort(times)[: max(1, int(share * len(times)))],
        lambda times, share: np.argsort(times)[-int(share * len(times)) :],
    ],
    ids=["the last rows", "the oldest", "all where the share rounds to 0"],
)
def test_recent_rows_are_the_latest_and_the_checker_rejects(wrong):
    check_recent(recent_rows)
    with pytest.raises(AssertionError):
        check_recent(wrong)
