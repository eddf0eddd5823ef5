"""The REST API over the wire, asked as `curl` would, and what a server tells of itself."""

import json
import shutil
import urllib.error
import urllib.request

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.errors import ServerStartError
from serving.example_service import REGRESS_METHOD
from serving.server import ModelServer
from tests.serving.toy_examples import write_examples_model
from tests.serving.toy_release import expected_answer, place

MONITORING = 'prometheus_config { enable: true path: "/metrics" }'


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    return write_examples_model(tmp_path_factory.mktemp("people") / "people")


@pytest.fixture(scope="module")
def root(good_bundle, people, tmp_path_factory):
    root = place(good_bundle, tmp_path_factory.mktemp("root"), 3, "recommender")
    shutil.copytree(people, root / "people" / "12")
    (root / "monitoring.config").write_text(MONITORING)
    return root


@pytest.fixture(scope="module")
def server(root):
    with ModelServer(root, port=0, rest_port=0, max_message_mib=1) as running:
        yield running


@pytest.fixture
def call(server):
    """Returns (status, body) of a request; without data, a GET."""

    def call(path: str, data: object = None, raw: bytes | None = None):
        body = raw if data is None else json.dumps(data).encode()
        url = f"http://127.0.0.1:{server.rest_port}{path}"
        try:
            with urllib.request.urlopen(url, body, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    return call


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.target) as open_channel:
        yield open_channel


QUERY = {
    "user_id": ["ana"],
    "history_item_ids": [["i00"]],
    "user_age": [30],
    "context_tags": [["mobile"]],
}


def test_predict_in_columns_takes_scalars_too(call):
    inputs = {**QUERY, "exclude_item_ids": [["i01"]], "k": 3, "seed": [1]}
    asked = {"signature_name": "recommend", "inputs": inputs}
    status, answer = call("/v1/models/recommender:predict", asked)
    expected = expected_answer(["i00"], ["i01"], 3)
    assert status == 200
    assert answer["outputs"]["item_ids"] == expected["item_ids"].tolist()
    assert answer["outputs"]["scores"] == expected["scores"].tolist()


def test_predict_in_rows(call):
    row = {name: values[0] for name, values in QUERY.items()}
    status, answer = call("/v1/models/recommender:predict", {"instances": [row, row]})
    expected = expected_answer(["i00"], [], 5)["item_ids"].tolist()
    assert status == 200
    assert [row["item_ids"] for row in answer["predictions"]] == 2 * expected


@pytest.mark.parametrize("place", ["", "/versions/12"])
def test_classify_and_regress(call, place):
    asked = {"signature_name": "classify", "examples": [{"age": 25.0}]}
    status, answer = call(f"/v1/models/people{place}:classify", asked)
    assert (status, answer) == (200, {"results": [[["old", 0.25], ["young", 0.75]]]})
    asked = {
        "signature_name": "regress",
        "context": {"age": 40.0},
        "examples": [{}, {"age": 3.0}],
    }
    status, answer = call(f"/v1/models/people{place}:regress", asked)
    assert (status, answer) == (200, {"results": [40.0, 3.0]})


def test_status_and_metadata(call):
    state = {"version": "12", "state": "AVAILABLE"}
    fine = {"error_code": "OK", "error_message": ""}
    answer = {"model_version_status": [{**state, "status": fine}]}
    assert call("/v1/models/people") == (200, answer)
    assert call("/v1/models/people/versions/12") == (200, answer)
    status, metadata = call("/v1/models/people/metadata")
    assert status == 200
    spec = {"name": "people", "version": "12", "signature_name": ""}
    assert metadata["model_spec"] == spec
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    assert signatures["regress"]["method_name"] == REGRESS_METHOD


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/v1/models/none:predict", {"inputs": 1}, 404, "Servable not found"),
        ("/v1/models/people/versions/9:predict", {"inputs": 1}, 404, "people, 9"),
        ("/v1/models/people/labels/new:predict", {"inputs": 1}, 400, "label: new"),
        ("/v1/models/people:predict", {"inputs": 1}, 400, "not of expected type"),
        ("/v1/models/people:predict", {"inputs": [["a"]]}, 400, "shape"),
        ("/v1/models/people:predict", {}, 400, "'instances' or 'inputs'"),
        ("/v1/models/people:regress", {"examples": [{}]}, 400, "method_name"),
        ("/v1/models/people:regress", {}, 400, "examples"),
        ("/v1/models/people:explain", {}, 400, "Malformed request: POST"),
        ("/v1/models/people:predict", {"signature_name": 1}, 400, "signature_name"),
        ("/v1/models/people", {}, 400, "Malformed request: POST"),
        ("/v1/models/people:predict", None, 400, "Malformed request: GET"),
        ("/v1/models/none", None, 404, "Could not find any versions"),
        ("/v2/health", None, 404, "Malformed request"),
    ],
)
def test_errors_have_tf_serving_s_form(call, path, body, status, part):
    seen, answer = call(path, body)
    assert seen == status
    assert list(answer) == ["error"]
    assert part in answer["error"]


def test_bodies_that_are_too_large_or_no_json_harm_nobody(call):
    predict = "/v1/models/people:predict"
    assert call(predict, raw=b"x" * (1 << 21))[0] == 413
    assert call(predict, raw=b"{" + b"[" * 500_000)[0] == 400
    assert call(predict, raw=b"\xff\xfe")[0] == 400
    assert call("/v1/models/people")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"signature_name": "\\ud800", "inputs": {}}',
        b'{"inputs": {"\\uD800": [1]}}',
        b'{"inputs": ["\\udfff"]}',
    ],
)
def test_half_a_character_in_a_body_is_no_fault_of_the_server(call, body):
    status, answer = call("/v1/models/people:predict", raw=body)
    assert status == 400
    assert "JSON Parse error" in answer["error"]


def test_whole_characters_may_be_written_as_escapes(call):
    body = json.dumps({"inputs": {"\U0001f600": [1]}}).encode()
    assert b"ud83d" in body
    status, answer = call("/v1/models/people:predict", raw=body)
    assert (status, "\U0001f600" in answer["error"]) == (400, True)


def test_calls_with_examples_answer_over_grpc(channel):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "people", "regress"
    row = regress.input.example_list.examples.add()
    row.features.feature["age"].float_list.value.append(8.0)
    assert stub.Regress(regress).result.regressions[0].value == 8.0
    classify = classification_pb2.ClassificationRequest(input=regress.input)
    classify.model_spec.name, classify.model_spec.signature_name = "people", "classify"
    assert len(stub.Classify(classify).result.classifications[0].classes) == 2
    many = inference_pb2.MultiInferenceRequest(input=regress.input)
    many.tasks.add(model_spec=regress.model_spec, method_name=REGRESS_METHOD)
    answer = stub.MultiInference(many).results[0]
    assert answer.regression_result.regressions[0].value == 8.0
    with pytest.raises(grpc.RpcError, match="at least one task"):
        stub.MultiInference(inference_pb2.MultiInferenceRequest())


def test_health_is_that_of_a_server_which_serves(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def families(server) -> dict:
    url = f"http://127.0.0.1:{server.rest_port}/metrics"
    with urllib.request.urlopen(url, timeout=60) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_what_was_asked(server, call):
    before = families(server)
    good, bad = ({"inputs": 1}, {"inputs": {"inputs": [{"b64": ""}]}})
    assert call("/v1/models/people:predict", good)[0] == 400
    assert call("/v1/models/people:predict", bad)[0] == 200
    call("/v1/models/no-such-model:predict", good)
    after = families(server)

    def grown(name: str, **labels: str) -> float:
        key = (f":tensorflow:{name}", *sorted(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    refused = {"model_name": "people", "status": "INVALID_ARGUMENT"}
    assert grown("serving:request_count", **refused) == 1
    assert grown("serving:request_count", model_name="people", status="OK") == 1
    assert grown("serving:request_count", model_name="", status="NOT_FOUND") == 1
    timed = {"model_name": "people", "API": "Predict"}
    latency = "serving:request_latency_count"
    assert grown(latency, entrypoint="REST", **timed) == 1
    assert grown("serving:runtime_latency_sum", runtime="TF1", **timed) > 0
    loads = [key for key in after if "load_attempt_count" in key[0]]
    assert {dict(key[1:])["status"] for key in loads} == {"success"}
    # Whoever asks for a thousand names must not make a thousand series.
    assert not any("no-such-model" in str(key) for key in after)


def reload_request(text: str) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(f"model_config_list {{ {text} }}", request.config)
    return request


def test_reload_serves_other_models_from_now_on(root, people):
    entry = 'config {{ name: "{}" base_path: "{}" model_platform: "tensorflow" }}'
    with (
        ModelServer(root, port=0, poll_interval_s=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert set(server.models()) == {"people", "recommender"}
        both = entry.format("people", "people") + entry.format("folk", root / "people")
        stub.HandleReloadConfigRequest(reload_request(both))
        assert server.models() == {"people": [12], "folk": [12]}
        for wrong, part in (
            (
                entry.format("ghost", root / "nowhere"),
                "No versions of servable ghost",
            ),
            (entry.format("a", "people") * 2, "a name of its own"),
        ):
            with pytest.raises(grpc.RpcError, match=part):
                stub.HandleReloadConfigRequest(reload_request(wrong))
            assert server.models() == {"people": [12], "folk": [12]}
        with pytest.raises(grpc.RpcError, match="model_config_list"):
            empty = model_management_pb2.ReloadConfigRequest()
            stub.HandleReloadConfigRequest(empty)


def test_a_port_that_is_taken_is_named(server, root):
    with pytest.raises(ServerStartError, match=str(server.rest_port)):
        ModelServer(root, port=0, rest_port=server.rest_port).start()


def test_monitoring_config_that_is_none_is_named(root, tmp_path):
    shutil.copytree(root / "people", tmp_path / "people")
    (tmp_path / "monitoring.config").write_text("prometheus: yes")
    with pytest.raises(ServerStartError, match=r"monitoring\.config"):
        ModelServer(tmp_path, port=0).start()
