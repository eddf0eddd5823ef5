import numpy as np
import tensorflow as tf

from models.index import ExactIndex, IndexSettings, ScannIndex, recall_against_exact
from tests.models.index.index_contract import IndexContract, unit_vectors


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
