"""A model with ScaNN's ops, in a process that has never heard of ScaNN."""

import numpy as np
import pytest
import tensorflow as tf

from serving.client import RecommendationClient
from serving.saved_model_needs import needs_of_model
from serving.server_process import ServerProcess

pytestmark = pytest.mark.component

VECTORS = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


class Searcher(tf.Module):
    """The three vectors with the largest dot product."""

    def __init__(self):
        super().__init__()
        from scann.scann_ops.py import scann_ops

        searcher = scann_ops.builder(VECTORS, 3, "dot_product").score_brute_force()
        self.searcher = searcher.build()
        self.state = self.searcher.serialize_to_module()
        self._from_module = scann_ops.searcher_from_module

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "query")])
    def search(self, query):
        rows, scores = self._from_module(self.state).search_batched(query)
        return {"rows": rows, "scores": scores}


def test_server_registers_scann_for_a_model_that_needs_it(tmp_path):
    model = Searcher()
    tf.saved_model.save(
        model,
        str(tmp_path / "search" / "1"),
        signatures={"serving_default": model.search},
        options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
    )
    needs = needs_of_model(tmp_path / "search" / "1")
    # ScaNN's ops are registered in this process, and are no stock ones for that.
    assert needs.custom_ops
    assert all(op.startswith("Scann>") for op in needs.custom_ops)
    query = np.array([[1.0, -0.5, 0.25, 2.0]], np.float32)
    with (
        ServerProcess(tmp_path) as server,
        RecommendationClient(server.target) as client,
    ):
        outputs, _ = client.predict("search", "serving_default", {"query": query})
    scores = (VECTORS @ query[0]).astype(np.float64)
    np.testing.assert_array_equal(outputs["rows"][0], np.argsort(-scores)[:3])
    np.testing.assert_allclose(outputs["scores"][0], -np.sort(-scores)[:3], rtol=1e-5)
