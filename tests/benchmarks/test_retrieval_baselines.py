"""Each baseline beside a slow version of itself that follows the definition."""

import numpy as np
import pytest

from benchmarks.peers.fold_in import fold_in
from benchmarks.peers.sequence_pieces import pieces
from benchmarks.retrieval_baselines import (
    Ease,
    ItemKnn,
    Popularity,
    RecentPopularity,
    history_weights,
    interaction_matrix,
)
from models.retrieval.evaluation import Interactions
from tests.benchmarks.retrieval_world import small_contest

TASK = small_contest().final
HISTORIES = [np.array([3, 1, 4]), np.array([], np.int64), np.array([2])]


def check_history_weights(implementation):
    halved = implementation(HISTORIES, 5, half_life=1.0).toarray()
    np.testing.assert_allclose(
        halved, [[0, 0.5, 0, 0.25, 1], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]
    )
    cut = implementation(HISTORIES, 5, last=2).toarray()
    np.testing.assert_allclose(cut, [[0, 1, 0, 0, 1], [0] * 5, [0, 0, 1, 0, 0]])
    slow = implementation(HISTORIES, 5, last=2, half_life=2.0).toarray()
    np.testing.assert_allclose(slow[0], [0, 2**-0.5, 0, 0, 1], rtol=1e-6)
    bent = implementation(HISTORIES, 5, half_life=2.0, is_hyperbolic=True).toarray()
    np.testing.assert_allclose(bent[0], [0, 2 / 3, 0, 0.5, 1], rtol=1e-6)


def test_history_weights():
    check_history_weights(history_weights)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda h, n, last=None, **decay: history_weights(
            [items[::-1] for items in h], n, last, **decay
        ),  # the oldest first
        lambda h, n, last=None, **decay: history_weights(
            [items[:last] for items in h], n, None, **decay
        ),  # keeps the oldest
        lambda h, n, last=None, **decay: history_weights(h, n, last),
        lambda h, n, last=None, half_life=None, is_hyperbolic=False: history_weights(
            h, n, last, half_life
        ),
    ],
)
def test_checker_rejects_wrong_weights(wrong):
    with pytest.raises(AssertionError):
        check_history_weights(wrong)


def users_of(item):
    train = TASK.train
    return set(train.users[train.items == item].tolist())


def check_item_knn(matrix):
    found = matrix(TASK, neighbours=100, shrinkage=2.0, asymmetry=0.3)
    for i in range(TASK.num_items):
        for j in range(TASK.num_items):
            both = len(users_of(i) & users_of(j)) if i != j else 0
            norm = len(users_of(i)) ** 0.3 * len(users_of(j)) ** 0.7 + 2.0
            np.testing.assert_allclose(found[i, j], both / norm, rtol=1e-5)


def test_item_knn():
    check_item_knn(ItemKnn([], []).matrix)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda task, **s: ItemKnn([], []).matrix(task, **s).T,
        lambda task, **s: ItemKnn([], []).matrix(task, **s | {"shrinkage": 0.0}),
    ],
)
def test_checker_rejects_wrong_similarities(wrong):
    with pytest.raises(AssertionError):
        check_item_knn(wrong)


def test_item_knn_keeps_the_nearest_of_each_item():
    whole = ItemKnn([], []).matrix(TASK, neighbours=100, shrinkage=1.0)
    cut = ItemKnn([], []).matrix(TASK, neighbours=3, shrinkage=1.0)
    for j in range(TASK.num_items):
        least = np.sort(whole[:, j])[-3]
        np.testing.assert_allclose(
            cut[:, j], np.where(whole[:, j] >= least, whole[:, j], 0.0)
        )


def check_ease(matrix):
    """Each column solves the ridge regression of its item on all others."""
    met = interaction_matrix(TASK.train, TASK.num_users, TASK.num_items).toarray()
    found = matrix(TASK, regularization=5.0)
    for j in range(TASK.num_items):
        others = np.delete(np.arange(TASK.num_items), j)
        inputs = met[:, others].astype(np.float64)
        gram = inputs.T @ inputs + 5.0 * np.eye(len(others))
        expected = np.zeros(TASK.num_items)
        expected[others] = np.linalg.solve(gram, inputs.T @ met[:, j])
        np.testing.assert_allclose(found[:, j], expected, atol=1e-5)


def test_ease():
    check_ease(Ease([], []).matrix)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda task, regularization: Ease([], []).matrix(task, regularization).T,
        lambda task, regularization: Ease([], []).matrix(task, regularization * 2),
        lambda task, regularization: -Ease([], []).matrix(task, regularization),
    ],
)
def test_checker_rejects_wrong_ease(wrong):
    with pytest.raises(AssertionError):
        check_ease(wrong)


def test_linear_scores_are_the_weighted_sum_over_the_history():
    contender = Ease([{"regularization": 5.0}], [{"half_life": 2.0}])
    ((setting, scorer),) = list(contender.candidates(TASK))
    matrix = contender.matrix(TASK, regularization=5.0)
    places = np.array([4, 0])
    found = scorer(places)
    learnt = contender.learn(TASK, setting)(places)
    for row, place in enumerate(places):
        newest_first = TASK.histories[place][::-1]
        expected = sum(2.0 ** (-a / 2) * matrix[i] for a, i in enumerate(newest_first))
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(learnt[row], expected, rtol=1e-4, atol=1e-5)


def test_popularity_counts_training_events_alone():
    ((_, scorer),) = list(Popularity().candidates(TASK))
    expected = [int((TASK.train.items == i).sum()) for i in range(TASK.num_items)]
    assert scorer(np.array([0]))[0].tolist() == expected


def test_recent_popularity_halves_with_age():
    scorer = RecentPopularity([1.0]).learn(TASK, {"half_life_days": 1.0})
    hours = np.arange(TASK.num_train)[::-1] / 24  # the events are an hour apart
    expected = [
        sum(2.0 ** -hours[row] for row in np.flatnonzero(TASK.train.items == item))
        for item in range(TASK.num_items)
    ]
    np.testing.assert_allclose(scorer(np.array([0]))[0], expected)


def check_fold_in(implementation):
    rng = np.random.default_rng(0)
    factors = rng.normal(size=[5, 3])
    histories = history_weights(HISTORIES, 5)
    mean = implementation(histories, factors, 2.0, None)
    np.testing.assert_allclose(mean[0], 2 * factors[[3, 1, 4]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean[1], 0)
    solved = implementation(histories, factors, 1.0, 0.5)
    own = factors[[3, 1, 4]]
    # The minimum of sum_h (u y_h - 1)^2 + w sum_i (u y_i)^2 + ridge |u|^2.
    gradient = own.T @ (own @ solved[0] - 1) + 3 / 5 * factors.T @ (factors @ solved[0])
    np.testing.assert_allclose(gradient + 0.5 * solved[0], 0, atol=1e-6)
    uneven = history_weights(HISTORIES, 5, half_life=1.0)  # 1/4, 1/2 and 1
    mean = implementation(uneven, factors, 1.0, None)
    weight = np.array([0.25, 0.5, 1.0])
    np.testing.assert_allclose(mean[0], weight @ own / weight.sum(), rtol=1e-6)
    solved = implementation(uneven, factors, 1.0, 0.5)[0]
    gradient = own.T @ (weight * (own @ solved - 1)) + 0.5 * solved
    gradient += weight.sum() / 5 * factors.T @ (factors @ solved)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_fold_in():
    check_fold_in(fold_in)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda h, y, scale, ridge: fold_in(h, y, 1.0, ridge),
        lambda h, y, scale, ridge: fold_in(h, y, scale, ridge and 2 * ridge),
        lambda h, y, scale, ridge: (
            h @ y * scale if ridge is None else fold_in(h, y, scale, ridge)
        ),
    ],
)
def test_checker_rejects_wrong_fold_in(wrong):
    with pytest.raises(AssertionError):
        check_fold_in(wrong)


def check_pieces(implementation):
    users = np.array([7, 5, 7, 7, 5, 7, 7, 9])
    items = np.array([10, 20, 11, 12, 21, 13, 14, 30])
    sequence, item, place = implementation(Interactions(users, items, users), 2)
    found = [item[sequence == one].tolist() for one in np.unique(sequence)]
    assert sorted(found) == [[10], [10, 11, 12], [12, 13, 14], [20, 21], [30]]
    for one in np.unique(sequence):
        assert (np.diff(place[sequence == one]) > 0).all()


def without_heads(train, length):
    rows = sorted(zip(train.users, range(len(train.users)), train.items, strict=True))
    user, place, item = (np.array(column) for column in zip(*rows, strict=True))
    left = np.array([(user[row + 1 :] == user[row]).sum() for row in range(len(user))])
    return user * 100 + left // length, item, place


def newest_piece_alone(train, length):
    sequence, items, place = pieces(train, length)
    newest = {place[train.users[place] == user].max() for user in set(train.users)}
    ends = {sequence[place == last].min() for last in newest}
    keep = np.isin(sequence, list(ends))
    return sequence[keep], items[keep], place[keep]


def test_pieces():
    check_pieces(pieces)


@pytest.mark.parametrize("wrong", [without_heads, newest_piece_alone])
def test_checker_rejects_wrong_pieces(wrong):
    with pytest.raises(AssertionError):
        check_pieces(wrong)
