import numpy as np
import pytest
import tensorflow as tf

from models.index import ExactIndex, recall_against_exact


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
