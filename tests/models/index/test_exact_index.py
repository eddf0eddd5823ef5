import pytest
import tensorflow as tf

from models.index import ExactIndex, ScannIndex
from tests.models.index.index_contract import IndexContract, unit_vectors


class TestExactIndex(IndexContract):
    def make(self, embeddings):
        return ExactIndex(embeddings)


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


def test_exact_index_shares_a_variable():
    scann = ScannIndex(unit_vectors(50))
    assert ExactIndex(scann.embeddings).embeddings is scann.embeddings
