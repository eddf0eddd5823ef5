"""What every index promises, whatever finds its rows."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.index import ExactIndex, recall_against_exact
from tests import reference

RELOAD = """
import sys
import numpy as np
import tensorflow as tf
if sys.argv[2] == "scann":
    from scann.scann_ops.py import scann_ops
loaded = tf.saved_model.load(sys.argv[1])
queries = np.load(sys.argv[1] + "/queries.npy")
scores, rows = loaded.search(tf.constant(queries), tf.constant(7))
np.savez(sys.argv[1] + "/answer.npz", scores=scores, rows=rows)
"""


def unit_vectors(num_rows, dim=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(num_rows, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def clustered_vectors(num_rows, dim=16, seed=0, num_clusters=100):
    """Returns unit vectors around cluster centres that are the same for all seeds."""
    centres = np.random.default_rng(99).normal(size=(num_clusters, dim))
    random = np.random.default_rng(seed)
    vectors = centres[random.integers(0, num_clusters, num_rows)]
    vectors = vectors + 0.8 * random.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


class Served(tf.Module):
    """An index inside a module, searched by a request's own k."""

    def __init__(self, index, dim):
        super().__init__()
        self.index = index
        self.search = tf.function(
            index.search,
            input_signature=[
                tf.TensorSpec([None, dim], tf.float32),
                tf.TensorSpec([], tf.int32),
            ],
        )


class IndexContract:
    """Subclass it, fill in `make`, and say what recall the index must reach."""

    min_recall = 1.0
    needs_scann = False

    def make(self, embeddings):
        raise NotImplementedError

    @pytest.mark.parametrize("num_items", [1, 3, 16, 50, 2000])
    def test_search_finds_the_rows_of_the_largest_inner_product(self, num_items):
        items, queries = unit_vectors(num_items), unit_vectors(40, seed=1)
        k = min(10, num_items)
        _, expected = reference.top_k(queries, items, k)
        _, rows = self.make(items).search(tf.constant(queries), k)
        found = [
            len(set(r) & set(e)) / k
            for r, e in zip(rows.numpy(), expected, strict=True)
        ]
        assert np.mean(found) >= self.min_recall

    def test_search_returns_true_scores_in_descending_order(self):
        items, queries = unit_vectors(500), unit_vectors(20, seed=1)
        scores, rows = self.make(items).search(tf.constant(queries), 30)
        assert rows.dtype == tf.int32 and scores.dtype == tf.float32
        expected = np.take_along_axis(queries @ items.T, rows.numpy(), axis=1)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        assert (np.diff(scores, axis=1) <= 1e-6).all()
        assert all(len(set(row)) == 30 for row in rows.numpy())

    @pytest.mark.parametrize("num_items", [1, 5, 300])
    def test_search_for_more_than_exist_pads_at_the_end(self, num_items):
        items = unit_vectors(num_items)
        queries = tf.constant(unit_vectors(3, seed=1))
        scores, rows = self.make(items).search(queries, num_items + 4)
        assert rows.shape == scores.shape == (3, num_items + 4)
        for row in rows.numpy():
            assert sorted(row[:num_items]) == list(range(num_items))
        np.testing.assert_array_equal(rows[:, num_items:], -1)
        np.testing.assert_array_equal(scores[:, num_items:], -np.inf)

    @pytest.mark.parametrize("k", [0, -2])
    def test_search_for_nothing_returns_nothing(self, k):
        scores, rows = self.make(unit_vectors(20)).search(unit_vectors(2, seed=1), k)
        assert scores.shape == rows.shape == (2, 0)

    def test_search_of_no_query_returns_no_row(self):
        scores, rows = self.make(unit_vectors(20)).search(tf.zeros([0, 16]), 3)
        assert scores.shape == rows.shape == (0, 3)

    def test_search_of_a_batch_equals_single_searches(self):
        index = self.make(unit_vectors(400))
        queries = tf.constant(unit_vectors(5, seed=1))
        scores, rows = index.search(queries, 8)
        for row in range(5):
            single_scores, single_rows = index.search(queries[row : row + 1], 8)
            np.testing.assert_array_equal(single_rows[0], rows[row])
            np.testing.assert_allclose(single_scores[0], scores[row], atol=1e-6)

    def test_search_takes_k_from_the_request(self):
        served = Served(self.make(unit_vectors(200)), 16)
        queries = tf.constant(unit_vectors(4, seed=1))
        widths = [
            served.search(queries, tf.constant(k))[1].shape[1] for k in (1, 9, 300)
        ]
        assert widths == [1, 9, 300]

    @pytest.mark.parametrize(
        ("embeddings", "message"),
        [
            (np.zeros([0, 4], np.float32), r"should have shape \[N, D\].*\(0, 4\)"),
            (np.zeros([4], np.float32), r"should have shape \[N, D\].*\(4,\)"),
            (np.array([[0.0, 1.0], [np.nan, 1.0]]), r"should be finite.*row 1"),
        ],
    )
    def test_index_refuses_bad_embeddings(self, embeddings, message):
        with pytest.raises(ValueError, match=message):
            self.make(embeddings)

    def test_recall_of_an_index(self):
        items, queries = unit_vectors(2000), unit_vectors(300, seed=1)
        recall = recall_against_exact(self.make(items), ExactIndex(items), queries, 10)
        assert self.min_recall <= recall <= 1.0

    @pytest.mark.component
    def test_search_survives_saving_and_loading_in_a_fresh_process(self, tmp_path):
        served = Served(self.make(unit_vectors(3000)), 16)
        queries = unit_vectors(10, seed=1)
        tf.saved_model.save(
            served,
            str(tmp_path),
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )
        np.save(tmp_path / "queries.npy", queries)
        subprocess.run(
            [
                *(sys.executable, "-c", RELOAD, str(tmp_path)),
                "scann" if self.needs_scann else "stock",
            ],
            check=True,
            timeout=120,
            cwd=tmp_path,
        )
        scores, rows = served.search(tf.constant(queries), tf.constant(7))
        answer = np.load(tmp_path / "answer.npz")
        np.testing.assert_array_equal(answer["rows"], rows)
        np.testing.assert_allclose(answer["scores"], scores, atol=1e-6)
