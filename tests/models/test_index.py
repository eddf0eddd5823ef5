import numpy as np
import pytest
import tensorflow as tf

from models.index import (
    ExactIndex,
    IndexKind,
    IndexSettings,
    ScannIndex,
    build_index,
    recall_against_exact,
)
from tests.models.index_contract import IndexContract, unit_vectors


class TestExactIndex(IndexContract):
    def make(self, embeddings):
        return ExactIndex(embeddings)


class TestScannIndex(IndexContract):
    min_recall = 0.98
    needs_scann = True

    def make(self, embeddings):
        return ScannIndex(embeddings)


class TestScannIndexSharedWithAnExactOne(IndexContract):
    """The exact index that a served graph falls back on reads ScaNN's own copy."""

    needs_scann = True

    def make(self, embeddings):
        index = ExactIndex(ScannIndex(embeddings).embeddings)
        assert index.is_exact
        return index


class _SmallestFirst(ExactIndex):
    def search(self, queries, k):
        scores, rows = ExactIndex(-self.embeddings.numpy()).search(queries, k)
        return -scores, rows


class _MissingIsRowZero(ExactIndex):
    def search(self, queries, k):
        scores, rows = super().search(queries, k)
        return scores, tf.maximum(rows, 0)


class _HalfTheItems(ExactIndex):
    def search(self, queries, k):
        half = self.embeddings[: (self.num_items + 1) // 2]
        return ExactIndex(half.numpy()).search(queries, k)


class _ScoresOfOtherRows(ExactIndex):
    def search(self, queries, k):
        scores, rows = super().search(queries, k)
        return scores, tf.reverse(rows, axis=[1])


@pytest.mark.parametrize(
    ("test", "argument", "wrong"),
    [
        ("finds_the_rows_of_the_largest_inner_product", [2000], _SmallestFirst),
        ("finds_the_rows_of_the_largest_inner_product", [2000], _HalfTheItems),
        ("returns_true_scores_in_descending_order", [], _SmallestFirst),
        ("returns_true_scores_in_descending_order", [], _ScoresOfOtherRows),
        ("for_more_than_exist_pads_at_the_end", [300], _MissingIsRowZero),
        ("for_more_than_exist_pads_at_the_end", [300], _HalfTheItems),
    ],
)
def test_index_contract_rejects(test, argument, wrong):
    contract = IndexContract()
    contract.make = wrong
    with pytest.raises(AssertionError):
        getattr(contract, f"test_search_{test}")(*argument)


def _with_tree(embeddings, leaves_to_search):
    settings = IndexSettings(
        tree_above=100, num_leaves=20, leaves_to_search=leaves_to_search
    )
    return ScannIndex(embeddings, settings)


def test_scann_index_with_a_tree_finds_more_the_more_leaves_it_searches():
    items, queries = unit_vectors(3000), unit_vectors(100, seed=1)
    exact = ExactIndex(items)
    few, all_leaves = (
        recall_against_exact(_with_tree(items, share), exact, queries, 10)
        for share in (0.1, 1.0)
    )
    assert few < all_leaves
    assert all_leaves >= 0.98


def test_scann_index_reports_what_it_did_not_find_as_missing():
    """One leaf of 20 holds fewer than the 1,000 rows asked for."""
    items, queries = unit_vectors(3000), unit_vectors(6, seed=1)
    scores, rows = _with_tree(items, 0.05).search(tf.constant(queries), 1000)
    scores, rows = scores.numpy(), rows.numpy()
    assert rows.shape == (6, 1000)
    for row, score in zip(rows, scores, strict=True):
        num_found = (row >= 0).sum()
        assert 0 < num_found < 1000
        assert (row[num_found:] == -1).all()
        assert (score[num_found:] == -np.inf).all()
        assert len(set(row[:num_found])) == num_found
        assert np.isfinite(score[:num_found]).all()


class _Fixed:
    """An index that always answers the same rows."""

    is_exact = False

    def __init__(self, rows):
        self.rows = np.asarray(rows)

    def search(self, queries, k):
        rows = np.tile(self.rows[:k], [len(queries), 1])
        return tf.zeros(rows.shape), tf.constant(rows, tf.int32)


# Rows 0, 1, 2, 3 in this order for every query.
ITEMS = np.array([[4.0], [3.0], [2.0], [1.0]], np.float32)


def check_recall(recall):
    exact = ExactIndex(ITEMS)
    queries = np.ones([5, 1], np.float32)
    assert recall(_Fixed([1, 0]), exact, queries, 2) == 1.0  # order is irrelevant
    assert recall(_Fixed([0, 3]), exact, queries, 2) == 0.5
    assert recall(_Fixed([3, -1]), exact, queries, 2) == 0.0
    # Beyond N the exact rows end in -1, which is not something to find.
    assert recall(_Fixed([0, 1, -1, -1, -1, -1]), exact, queries, 6) == 0.5


def _rows(index, queries, k):
    return index.search(tf.constant(queries), k)[1].numpy()


WRONG_RECALLS = {
    "position by position": lambda index, exact, queries, k: np.mean(
        _rows(index, queries, k) == _rows(exact, queries, k)
    ),
    "missing rows count as found": lambda index, exact, queries, k: np.mean(
        [
            len(set(a) & set(b)) / len(set(b))
            for a, b in zip(
                _rows(index, queries, k), _rows(exact, queries, k), strict=True
            )
        ]
    ),
    "divided by k": lambda index, exact, queries, k: np.mean(
        [
            len(set(a) & set(b) - {-1}) / k
            for a, b in zip(
                _rows(index, queries, k), _rows(exact, queries, k), strict=True
            )
        ]
    ),
}


def test_recall_against_exact_value():
    check_recall(recall_against_exact)


@pytest.mark.parametrize("wrong", WRONG_RECALLS.values(), ids=WRONG_RECALLS)
def test_recall_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_recall(wrong)


def test_recall_against_exact_refuses_an_approximate_truth():
    with pytest.raises(ValueError, match="pass an ExactIndex"):
        recall_against_exact(ExactIndex(ITEMS), _Fixed([0]), np.ones([1, 1]), 1)


def test_recall_against_exact_refuses_no_queries():
    with pytest.raises(ValueError, match=r"at least one row.*Received: 0 queries"):
        recall_against_exact(_Fixed([0]), ExactIndex(ITEMS), np.ones([0, 1]), 1)


@pytest.mark.parametrize(
    ("kind", "num_items", "is_exact"),
    [
        (IndexKind.AUTO, 99, True),
        (IndexKind.AUTO, 100, False),
        (IndexKind.EXACT, 200, True),
        (IndexKind.SCANN, 50, False),
    ],
)
def test_build_index_follows_the_settings(kind, num_items, is_exact):
    settings = IndexSettings(kind=kind, exact_below=100)
    index = build_index(unit_vectors(num_items), settings)
    assert index.is_exact is is_exact
    assert index.num_items == num_items


def test_exact_index_shares_a_variable():
    scann = ScannIndex(unit_vectors(50))
    assert ExactIndex(scann.embeddings).embeddings is scann.embeddings
