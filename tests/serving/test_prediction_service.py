"""Predict and GetModelMetadata on a loaded toy, without a socket."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.errors import ModelLoadError, RequestError
from serving.prediction_service import get_model_metadata, predict
from serving.saved_model import SavedModel
from tests.serving.toy_release import (
    expected_answer,
    predict_request,
    query,
    recommend_inputs,
)

INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def model(good_bundle):
    loaded = SavedModel(good_bundle / "recommender")
    yield loaded
    loaded.close()


def _answer(model, request):
    response = predict(model, 7, request)
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def test_predict_answers_as_the_model_does(model):
    inputs = recommend_inputs("ana", ["i00", "i02"], ["i05"], 4)
    request = predict_request("recommender", "recommend", inputs)
    response = predict(model, 7, request)
    assert response.model_spec.version.value == 7
    assert response.model_spec.signature_name == "recommend"
    expected = expected_answer(["i00", "i02"], ["i05"], 4)
    seen = _answer(model, request)
    assert [x.decode() for x in seen["item_ids"][0]] == expected["item_ids"][0].tolist()
    np.testing.assert_allclose(seen["scores"], expected["scores"], atol=1e-6)


def test_predict_without_signature_name_means_serving_default(model):
    request = predict_request("recommender", "", query("ana", ["i01"]))
    assert predict(model, 7, request).model_spec.signature_name == "serving_default"
    assert _answer(model, request)["item_ids"].shape == (1, 5)


def test_output_filter_limits_and_keeps_values(model):
    request = predict_request("recommender", "", query("ana", ["i01"]))
    whole = _answer(model, request)
    request.output_filter.append("scores")
    part = _answer(model, request)
    assert set(part) == {"scores"}
    np.testing.assert_array_equal(part["scores"], whole["scores"])


def test_metadata_holds_the_signatures(model):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    request.model_spec.name = "recommender"
    response = get_model_metadata(model, 7, request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "recommend"}
    inputs = signatures.signature_def["recommend"].inputs
    assert set(inputs) == set(recommend_inputs("a", [], [], 1))


def _without_user(request):
    del request.inputs["user_id"]


def _with_extra(request):
    request.inputs["colour"].CopyFrom(tf.make_tensor_proto(["red"]))


def _renamed(request):
    request.inputs["userid"].CopyFrom(request.inputs["user_id"])
    del request.inputs["user_id"]


def _wrong_dtype(request):
    request.inputs["user_age"].CopyFrom(tf.make_tensor_proto(["old"]))


def _wrong_rank(request):
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([["ana"]]))


def _lying_shape(request):
    request.inputs["user_id"].tensor_shape.dim[0].size = 2**50


def _unequal_batch(request):
    request.inputs["history_item_ids"].CopyFrom(tf.make_tensor_proto([["a"]] * 3))


def _unknown_output(request):
    request.output_filter.append("colours")


def _output_twice(request):
    request.output_filter.extend(["scores", "scores"])


def _unknown_signature(request):
    request.model_spec.signature_name = "recomend"


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (_without_user, INVALID, r"6!=7 .*Missing but required: \{user_id\}"),
        (_with_extra, INVALID, r"8!=7 .*Sent extra: \{colour\}"),
        (_renamed, INVALID, r"Sent extra: \{userid\}. Missing but required: \{user_id"),
        (_wrong_dtype, INVALID, "user_age: Expects arg to be float but string is"),
        (_wrong_rank, INVALID, r"user_id: Expected shape \[\?\] of rank 1"),
        (_lying_shape, INVALID, "tensor parsing error: user_id"),
        (_unequal_batch, INVALID, "ConcatOp|Dimension"),
        (_unknown_output, INVALID, "output tensor alias not found in signature: colo"),
        (_output_twice, INVALID, "duplicate output tensor alias: scores"),
        (
            _unknown_signature,
            grpc.StatusCode.FAILED_PRECONDITION,
            'Serving signature key "recomend" not found.',
        ),
    ],
)
def test_bad_request_gets_its_status(model, spoil, code, message):
    inputs = recommend_inputs("ana", ["i00", "i02"], ["i05", "i06"], 4)
    request = predict_request("recommender", "recommend", inputs)
    spoil(request)
    with pytest.raises(RequestError, match=message) as caught:
        predict(model, 7, request)
    assert caught.value.code is code


@pytest.mark.parametrize("fields", [[], ["signature_def", "weights"]])
def test_bad_metadata_request_gets_its_status(model, fields):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    with pytest.raises(RequestError) as caught:
        get_model_metadata(model, 7, request)
    assert caught.value.code is INVALID


def test_folder_without_model_is_a_load_error(tmp_path):
    with pytest.raises(ModelLoadError, match=r"should hold saved_model.pb"):
        SavedModel(tmp_path)


def test_garbage_is_a_load_error(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(ModelLoadError, match="could not be loaded"):
        SavedModel(tmp_path)


def test_missing_scann_points_to_the_exact_model(tmp_path, monkeypatch):
    # A graph that names a ScaNN op, on a machine where ScaNN cannot be imported.
    monkeypatch.setitem(__import__("sys").modules, "scann.scann_ops.py", None)
    (tmp_path / "saved_model.pb").write_bytes(b"... Scann>ScannSearchBatched ...")
    with pytest.raises(ModelLoadError, match=r"`tandem doctor`.*`recommender_exact`"):
        SavedModel(tmp_path)
