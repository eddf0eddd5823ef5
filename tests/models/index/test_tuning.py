import dataclasses

import numpy as np
import pytest

from models.index import (
    ExactIndex,
    IndexSettings,
    IndexTuningError,
    ScannIndex,
    TuningPoint,
    recall_against_exact,
    tune_index,
)
from models.index.tuning import Measure, find_points
from tests.models.index.index_contract import clustered_vectors

ITEMS = clustered_vectors(8000)
QUERIES = clustered_vectors(300, seed=1)
OTHERS = clustered_vectors(300, seed=2)
SETTINGS = IndexSettings(tree_above=0, num_leaves=80)
NUM_LEAVES, NUM_ITEMS, K = 200, 100_000, 100


@pytest.fixture(scope="module")
def index():
    return ScannIndex(ITEMS, SETTINGS)


@pytest.fixture(scope="module")
def tuned(index):
    return tune_index(index, QUERIES)


def made_up(leaves, reordered):
    """Recall and speed as they tend to be; 24 leaves and 250 candidates are best."""
    recall = min(1.0, leaves / 25) ** 0.2 * min(1.0, reordered / 250) ** 0.5
    cost = 10 * leaves + reordered
    return TuningPoint(leaves, reordered, 2, recall, 0.0, 1e6 / cost)


def check_best_is_found(find):
    """Compares with trying everything."""
    points = find(made_up, NUM_LEAVES, NUM_ITEMS, K, 0.95)
    best = max(
        (p for p in points if p.recall >= 0.95), key=lambda p: p.queries_per_second
    )
    every = [
        made_up(leaves, reordered)
        for leaves in range(1, NUM_LEAVES + 1)
        for reordered in range(100, 1001, 10)
    ]
    possible = max(p.queries_per_second for p in every if p.recall >= 0.95)
    assert best.queries_per_second >= 0.95 * possible
    assert all(p == made_up(p.num_leaves, p.num_reordered) for p in points)
    assert len(points) <= 80  # of 18,200


def most_of_everything(evaluate, num_leaves, num_items, k, target):
    return [evaluate(num_leaves, 10 * k)]


def leaves_alone(evaluate, num_leaves, num_items, k, target):
    return [evaluate(leaves, 10 * k) for leaves in range(1, 60)]


def candidates_alone(evaluate, num_leaves, num_items, k, target):
    return [evaluate(num_leaves, k * times) for times in range(1, 11)]


def test_search_for_points_comes_near_the_best():
    check_best_is_found(find_points)


@pytest.mark.parametrize("wrong", [most_of_everything, leaves_alone, candidates_alone])
def test_check_of_the_search_rejects(wrong):
    with pytest.raises(AssertionError):
        check_best_is_found(wrong)


def test_search_without_leaves_looks_for_the_fewest_candidates():
    def scan(leaves, reordered):
        assert leaves == 0
        return dataclasses.replace(made_up(1000, reordered), num_leaves=0)

    points = find_points(scan, 0, NUM_ITEMS, K, 0.95)
    assert min(p.num_reordered for p in points if p.recall >= 0.95) == 250


def test_uncertain_recall_counts_by_its_lower_bound():
    def point(error):
        return TuningPoint(1, 1, 2, 0.96, error, 1.0)

    assert point(0.006).reaches(0.95)
    assert not point(0.007).reaches(0.95)


def test_tuned_index_reaches_the_target_on_other_queries(index, tuned):
    searched, tuning = tuned
    assert tuning.best.reaches(0.95)
    exact = ExactIndex(ITEMS)
    recall = recall_against_exact(searched, exact, OTHERS, 100)
    assert recall >= 0.945  # of other queries: give or take a standard error
    assert recall < 0.995  # what the target does not ask for was not paid for


def test_tuned_index_searches_as_its_best_point(index, tuned):
    """The settings, which count in shares, say the same as the point's numbers."""
    searched, tuning = tuned
    best = tuning.best
    expected = index.search_with(QUERIES, 100, best.num_leaves, best.num_reordered)
    for seen, value in zip(searched.search(QUERIES, 100), expected, strict=True):
        np.testing.assert_array_equal(seen, value)


def test_tuned_index_is_not_built_anew(index, tuned):
    searched, _ = tuned
    assert searched.embeddings is index.embeddings
    assert index.settings == SETTINGS


def test_table_holds_what_was_measured(index, tuned):
    _, tuning = tuned
    assert len(tuning.points) >= 5
    measure = Measure(index, QUERIES, _truth(), 64)
    for point in tuning.points[::4]:
        again = measure(point.num_leaves, point.num_reordered)
        assert again.recall == pytest.approx(point.recall)
        assert point.queries_per_second > 0


def _truth():
    return np.argsort(-(QUERIES @ ITEMS.T), axis=1, kind="stable")[:, :100]


def test_measured_recall_is_the_share_of_the_true_rows(index):
    point = Measure(index, QUERIES, _truth(), 64)(4, 150)
    rows = index.search_with(QUERIES, 100, 4, 150)[1].numpy()
    each = [len(set(a) & set(b)) / 100 for a, b in zip(rows, _truth(), strict=True)]
    assert point.recall == pytest.approx(np.mean(each))
    assert point.recall_error == pytest.approx(np.std(each) / 300**0.5)


def test_target_out_of_reach_is_refused_with_what_to_do():
    """Blocks of 16 dimensions leave four bits a vector: no order to speak of."""
    coarse = ScannIndex(ITEMS, SETTINGS.model_copy(update={"dimensions_per_block": 16}))
    with pytest.raises(
        IndexTuningError,
        match=r"recall@10 0\.95: the best found .*`index.dimensions_per_block` below 16",
    ):
        tune_index(coarse, QUERIES, k=10)


def test_tuning_refuses_no_queries(index):
    with pytest.raises(ValueError, match="Received: 0 queries"):
        tune_index(index, QUERIES[:0])


def test_index_refuses_settings_it_was_not_built_with(index):
    with pytest.raises(ValueError, match=r"num_leaves=10.*build another"):
        index.searched_with(SETTINGS.model_copy(update={"num_leaves": 10}))
