"""The server over the wire, asked by the official stubs as any client would."""

import threading
import time

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving.errors import ServerStartError
from serving.server import ModelServer, main
from tests.serving.toy_release import (
    Flaw,
    ToyRecommender,
    expected_answer,
    place,
    predict_request,
    query,
    recommend_inputs,
    write_model,
)


@pytest.fixture(scope="module")
def server(good_bundle, tmp_path_factory):
    root = place(good_bundle, tmp_path_factory.mktemp("root"), 3)
    with ModelServer(root, port=0, max_message_mib=1) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


REQUEST = predict_request(
    "recommender", "recommend", recommend_inputs("ana", ["i00"], ["i01"], 3)
)


def test_server_reports_the_port_and_models_it_took(server):
    assert server.port > 0
    assert server.models() == {
        "ranking": [3],
        "recommender": [3],
        "recommender_exact": [3],
        "retrieval": [3],
    }


def test_predict_over_the_wire(stub):
    response = stub.Predict(REQUEST)
    seen = tf.make_ndarray(response.outputs["item_ids"])[0]
    expected = expected_answer(["i00"], ["i01"], 3)["item_ids"][0]
    assert [item.decode() for item in seen] == expected.tolist()
    assert response.model_spec.version.value == 3


def test_metadata_and_status_over_the_wire(server, stub):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    request.model_spec.name = "ranking"
    assert stub.GetModelMetadata(request).model_spec.version.value == 3
    with grpc.insecure_channel(server.target) as channel:
        status = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
            get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "ranking"})
        )
    (version,) = status.model_version_status
    assert version.version == 3
    assert version.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE


def _code(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    return caught.value.code()


def test_errors_over_the_wire(stub):
    code = grpc.StatusCode
    wrong_input = predict_request("recommender", "", query("ana", []))
    del wrong_input.inputs["user_id"]
    assert _code(stub.Predict, wrong_input) is code.INVALID_ARGUMENT
    assert _code(stub.Predict, predict_request("nobody", "", {})) is code.NOT_FOUND
    old = predict_request("recommender", "", query("ana", []))
    old.model_spec.version.value = 2
    assert _code(stub.Predict, old) is code.NOT_FOUND
    huge = predict_request("recommender", "", query("a" * (2 << 20), []))
    assert _code(stub.Predict, huge) is code.RESOURCE_EXHAUSTED
    classify = classification_pb2.ClassificationRequest()
    assert _code(stub.Classify, classify) is code.INVALID_ARGUMENT  # names no model
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    assert _code(stub.GetModelMetadata, metadata) is code.INVALID_ARGUMENT
    stub.Predict(REQUEST)  # and none of it hurt


@pytest.mark.parametrize(
    "body", [b"\xff\xff\xff\xff", REQUEST.SerializeToString()[:-1]]
)
def test_bytes_that_are_no_request_are_internal_and_do_not_stop_the_server(
    server, stub, body
):
    with grpc.insecure_channel(server.target) as channel:
        for service in ("PredictionService/Predict", "ModelService/GetModelStatus"):
            raw = channel.unary_unary(f"/tensorflow.serving.{service}")
            with pytest.raises(grpc.RpcError) as caught:
                raw(body, timeout=20)
            assert caught.value.code() is grpc.StatusCode.INTERNAL
            assert "cannot be read" in caught.value.details()
    stub.Predict(REQUEST)


def test_a_taken_port_is_refused(server):
    with pytest.raises(ServerStartError, match=f"127.0.0.1:{server.port}"):
        ModelServer(server.root, server.port).start()


def test_root_where_nothing_loads_is_refused(tmp_path, capsys):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"broken")
    with pytest.raises(ServerStartError, match="could not be loaded"):
        ModelServer(tmp_path, port=0).start()
    assert main(["--root", str(tmp_path), "--port", "0"]) == 1
    assert "could not be loaded" in capsys.readouterr().err


def test_one_broken_model_does_not_keep_the_others_down(good_bundle, tmp_path):
    place(good_bundle, tmp_path, 1, "retrieval")
    (tmp_path / "recommender" / "1").mkdir(parents=True)
    (tmp_path / "recommender" / "1" / "saved_model.pb").write_bytes(b"Scann> broken")
    with (
        ModelServer(tmp_path, port=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        assert server.models() == {"recommender": [], "retrieval": [1]}
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(REQUEST)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "A version failed to load" in caught.value.details()


def count_failures_during_swaps(good_bundle, root, swap, num_swaps=5):
    """Returns (failed, answered, versions seen) of requests while `swap` runs."""
    place(good_bundle, root, 1, "recommender")
    failed, versions, stopping = [], [], threading.Event()

    def ask(target):
        with grpc.insecure_channel(target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stopping.is_set():
                try:
                    response = stub.Predict(REQUEST, timeout=20)
                    versions.append(response.model_spec.version.value)
                except grpc.RpcError as error:
                    failed.append(error.code())

    with ModelServer(root, port=0, poll_interval_s=0) as server:
        threads = [threading.Thread(target=ask, args=(server.target,)) for _ in "123"]
        for thread in threads:
            thread.start()
        for version in range(2, 2 + num_swaps):
            place(good_bundle, root, version, "recommender")
            swap(server)
        stopping.set()
        for thread in threads:
            thread.join()
    return failed, len(versions), set(versions)


def test_no_request_fails_while_versions_swap(good_bundle, tmp_path):
    failed, answered, versions = count_failures_during_swaps(
        good_bundle, tmp_path, ModelServer.refresh
    )
    assert failed == []
    assert answered > 0
    assert len(versions) > 1


def test_swap_checker_sees_a_server_that_drops_before_it_loads(good_bundle, tmp_path):
    def drop_then_load(server):
        server._store.close()
        time.sleep(0.05)
        server.refresh()

    failed, _, _ = count_failures_during_swaps(
        good_bundle, tmp_path, drop_then_load, num_swaps=2
    )
    assert grpc.StatusCode.NOT_FOUND in failed


def test_server_finds_a_new_version_by_itself(good_bundle, tmp_path):
    place(good_bundle, tmp_path, 1, "ranking")
    with ModelServer(tmp_path, port=0, poll_interval_s=0.05) as server:
        place(good_bundle, tmp_path, 2, "ranking")
        deadline = time.monotonic() + 20
        while server.models() != {"ranking": [2]} and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.models() == {"ranking": [2]}


def test_stop_waits_for_the_running_request(tmp_path):
    (tmp_path / "recommender").mkdir()
    write_model(tmp_path / "recommender" / "1", ToyRecommender(Flaw.SLOW))
    server = ModelServer(tmp_path, port=0).start()
    with grpc.insecure_channel(server.target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(REQUEST)  # so that the connection is up
        running = [stub.Predict.future(REQUEST) for _ in range(3)]
        time.sleep(0.05)
        server.stop()
        assert all(call.code() is grpc.StatusCode.OK for call in running)
        assert _code(stub.Predict, REQUEST) is grpc.StatusCode.UNAVAILABLE


def test_batching_changes_no_answer(good_bundle, tmp_path):
    root = place(good_bundle, tmp_path, 3)
    config = tmp_path / "batching.config"
    config.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 20000 }\n"
        "pad_variable_length_inputs: true"
    )
    users = [("ana", ["i00"]), ("ben", ["i01", "i02"]), ("cy", [])]
    requests = [
        predict_request("recommender", "serving_default", query(user, history))
        for user, history in users
    ]
    with (
        ModelServer(root, port=0, batching_file=config) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = [stub.Predict.future(request) for request in 5 * requests]
        for place_, call in enumerate(asked):
            seen = tf.make_ndarray(call.result().outputs["item_ids"])
            history = users[place_ % len(users)][1]
            expected = expected_answer(history, [], 5)["item_ids"]
            assert [
                [item.decode() for item in row] for row in seen
            ] == expected.tolist()
        recommend = stub.Predict(REQUEST)  # has a scalar, so it is run alone
        assert recommend.outputs["item_ids"].tensor_shape.dim[1].size == 3
        wrong = predict_request("recommender", "", query("ana", []))
        del wrong.inputs["user_id"]
        assert _code(stub.Predict, wrong) is grpc.StatusCode.INVALID_ARGUMENT
