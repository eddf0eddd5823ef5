"""The client: what it fills in, what it hands back, what it says when it cannot."""

import socket

import grpc
import numpy as np
import pytest
from tensorflow.core.protobuf import meta_graph_pb2

from serving.client import (
    PredictError,
    RecommendationClient,
    ServerUnavailableError,
    feature_array,
)
from serving.server import ModelServer
from tests.serving.toy_release import expected_answer, place

STRING, FLOAT, INT64 = 7, 1, 9


@pytest.fixture(scope="module")
def client(good_bundle, tmp_path_factory):
    root = place(good_bundle, tmp_path_factory.mktemp("root"), 12)
    with (
        ModelServer(root, port=0) as server,
        RecommendationClient(server.target) as connected,
    ):
        yield connected


@pytest.mark.parametrize("model", ["recommender", "recommender_exact"])
def test_recommend_returns_what_the_model_answers(client, model):
    seen = client.recommend(
        "ana",
        ["i00", "i02"],
        {"user_age": 31, "context_tags": ["mobile"]},
        exclude_item_ids=["i05"],
        k=4,
        seed=9,
        model=model,
    )
    expected = expected_answer(["i00", "i02"], ["i05"], 4)
    assert seen.item_ids == expected["item_ids"][0].tolist()
    np.testing.assert_allclose(seen.scores, expected["scores"][0], atol=1e-6)
    assert seen.propensities == [1.0] * 4
    assert (seen.version, seen.seed) == (12, 9)


def test_recommend_needs_no_features_history_or_seed(client):
    seen = client.recommend("nobody")
    assert seen.item_ids == expected_answer([], [], 10)["item_ids"][0].tolist()
    assert client.recommend("nobody").seed != seen.seed


def test_recommend_leaves_the_empty_tail_out(client):
    seen = client.recommend("ana", exclude_item_ids=["i00"], k=30)
    assert len(seen.item_ids) == len(seen.scores) == len(seen.propensities) == 19


def test_recommend_names_an_unknown_feature(client):
    with pytest.raises(ValueError, match=r"\['context_tags', 'user_age'\].*'user_aeg'"):
        client.recommend("ana", features={"user_aeg": 3})


def test_recommend_refuses_k_below_one(client):
    with pytest.raises(ValueError, match=r"Received: k=0"):
        client.recommend("ana", k=0)


def test_recommend_reads_the_signature_again_after_a_swap(client):
    stale = meta_graph_pb2.SignatureDef()
    stale.inputs["user_shoe_size"].dtype = FLOAT
    client._signatures["recommender", "recommend"] = stale
    assert client.recommend("ana", k=2).item_ids == ["i00", "i01"]


def test_predict_asks_any_model(client):
    outputs, version = client.predict(
        "retrieval",
        "serving_default",
        {
            "user_id": np.array(["ana"], object),
            "history_item_ids": np.array([[""]], object),
        },
    )
    assert outputs["item_ids"].shape == (1, 10)
    assert version == 12


def test_refusals_keep_their_status(client):
    with pytest.raises(PredictError, match=r"NOT_FOUND: Servable not found") as caught:
        client.recommend("ana", model="nobody")
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(PredictError, match="no signature `recommend`"):
        client.signature("ranking")
    with pytest.raises(PredictError, match=r"Specific\(ranking, 1\)"):
        client.predict("ranking", "serving_default", {}, version=1)


def test_model_status_by_version(client):
    assert client.model_status("ranking") == {12: "AVAILABLE"}


def test_missing_server_names_target_and_command():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with (
            RecommendationClient(f"127.0.0.1:{port}") as client,
            pytest.raises(
                ServerUnavailableError,
                match=f"127.0.0.1:{port}.*`tandem serve --root <root> --port {port}`",
            ),
        ):
            client.recommend("ana")


def _info(dtype: int, rank: int) -> meta_graph_pb2.TensorInfo:
    info = meta_graph_pb2.TensorInfo(name="recommend_x:0", dtype=dtype)
    for _ in range(rank):
        info.tensor_shape.dim.add().size = -1
    return info


@pytest.mark.parametrize(
    ("value", "dtype", "rank", "expected"),
    [
        ("a", STRING, 1, ["a"]),
        (None, STRING, 1, [""]),
        (None, STRING, 2, [[""]]),
        (["a", "b"], STRING, 2, [["a", "b"]]),
        ("a", STRING, 2, [["a"]]),
        (3, FLOAT, 1, [3.0]),
        (None, FLOAT, 1, [np.nan]),
        (None, INT64, 1, [0]),
    ],
)
def test_feature_array_is_of_the_signatures_form(value, dtype, rank, expected):
    seen = feature_array("x", value, _info(dtype, rank))
    np.testing.assert_array_equal(seen, np.array(expected, seen.dtype))


def _vector(size):
    info = _info(FLOAT, 2)
    info.tensor_shape.dim[1].size = size
    return info


@pytest.mark.parametrize(
    ("value", "info", "expected"),
    [
        ([1, 2.5], _vector(2), [[1.0, 2.5]]),
        (np.array([1.0, 2.5]), _vector(2), [[1.0, 2.5]]),
        (None, _vector(3), [[np.nan] * 3]),
        (0.5, _vector(1), [[0.5]]),
        ([0.5, 2.0, 1.0], _info(FLOAT, 2), [[0.5, 2.0, 1.0]]),  # weights
        (None, _info(FLOAT, 2), [[np.nan]]),
        ([], _info(STRING, 2), np.empty([1, 0])),
    ],
)
def test_feature_array_of_vectors_and_weights(value, info, expected):
    seen = feature_array("x", value, info)
    np.testing.assert_array_equal(seen, np.array(expected, seen.dtype))


@pytest.mark.parametrize("value", [[1.0], [1.0, 2.0, 3.0], 1.0, []])
def test_feature_array_refuses_a_vector_of_another_size(value):
    with pytest.raises(
        ValueError, match=r"`x` should be a list of 2 numbers. Received"
    ):
        feature_array("x", value, _vector(2))


def test_feature_array_refuses_a_list_for_one_value():
    with pytest.raises(ValueError, match="`x` should be one value"):
        feature_array("x", ["a", "b"], _info(STRING, 1))
