"""Sampled calls end in PredictionLog records, and a slow disk harms nobody."""

from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    model_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServerStartError
from serving.model_config import Sampling, served_models
from serving.request_log import RequestLog
from serving.server import ModelServer
from tests.serving.toy_examples import write_examples_model

SPEC = model_pb2.ModelSpec(name="people")


def records(folder: Path) -> list[prediction_log_pb2.PredictionLog]:
    files = sorted(str(file) for file in folder.glob("*.tfrecord"))
    return [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(files)
    ]


def offered(prefix: Path, rate: float, draws: list[float]) -> int:
    """Offers a call for each draw, and returns how many were kept."""
    log = RequestLog(lambda name: Sampling(rate, str(prefix)), iter(draws).__next__)
    for _ in draws:
        log.offer(SPEC, predict_pb2.PredictRequest(), predict_pb2.PredictResponse())
    log.close()
    return len(records(prefix.parent))


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_share_of_calls_that_is_asked_for_is_kept(tmp_path, rate, kept):
    assert offered(tmp_path / "logs" / "people", rate, [0.0, 0.25, 0.6, 0.999]) == kept


def test_models_that_are_not_logged_leave_nothing(tmp_path):
    log = RequestLog(lambda name: None)
    log.offer(SPEC, predict_pb2.PredictRequest(), predict_pb2.PredictResponse())
    log.close()
    assert not list(tmp_path.iterdir())


def test_what_the_disk_cannot_take_is_dropped_and_counted(tmp_path, monkeypatch):
    log = RequestLog(lambda name: Sampling(1.0, str(tmp_path / "people")))
    monkeypatch.setattr(log, "_waiting", type(log._waiting)(maxsize=3))
    # The thread still reads the queue that it started with: nobody empties the new one.
    for _ in range(10):
        log.offer(SPEC, predict_pb2.PredictRequest(), predict_pb2.PredictResponse())
    assert log.num_dropped == 7


def config(rate: float, kind: str = "tfrecord", prefix: str = "logs/people") -> str:
    return (
        'config { name: "people" base_path: "people" model_platform: "tensorflow" '
        f"logging_config {{ sampling_config {{ sampling_rate: {rate} }} "
        f'log_collector_config {{ type: "{kind}" filename_prefix: "{prefix}" }} }} }}'
    )


def test_a_server_logs_what_it_answered(tmp_path):
    write_examples_model(tmp_path / "people" / "5")
    text = f"model_config_list {{ {config(1.0)} }}"
    (tmp_path / "models.config").write_text(text)
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "people", "regress"
    row = request.input.example_list.examples.add()
    row.features.feature["age"].float_list.value.append(8.0)
    with (
        ModelServer(tmp_path, port=0) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answers = [stub.Regress(request) for _ in range(3)]
    logs = records(tmp_path / "logs")
    assert len(logs) == 3
    for log, answer in zip(logs, answers, strict=True):
        assert log.regress_log.request == request
        assert log.regress_log.response == answer
        assert log.log_metadata.model_spec.version.value == 5


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (config(1.5), "sampling_rate of people"),
        (config(0.5, kind="kafka"), "type `tfrecord`"),
        (config(0.5, prefix=""), "filename_prefix"),
    ],
)
def test_a_logging_config_that_cannot_be_kept_to_is_named(wrong, part):
    parsed = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(f"model_config_list {{ {wrong} }}", parsed)
    with pytest.raises(ServerStartError, match=part):
        served_models(parsed, Path("/root/models.config"))
