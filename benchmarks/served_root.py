"""A release of MovieLens 100K as `tandem demo` makes it, for what measures its server."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.command_line import parser_of, say
from serving import tensor_codec
from serving.client import feature_array
from serving.release_tables import ReleaseTables

DATASET = "movielens-100k"
HISTORY = 50  # items of a request, "" pads


def root_parser(name: str, about: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a benchmark that serves a release."""
    parser = parser_of(name, about)
    parser.add_argument(
        "--root",
        type=Path,
        help="of a run on movielens-100k, such as `tandem demo`'s; default: one made here",
    )
    return parser


def served_root(given: Path | None = None) -> Path:
    """Returns a root folder with a release; made once, in minutes, and kept.

    Args:
        given: a root that has one, which is taken as it is.
    """
    if given is not None:
        return given.absolute()
    from pipeline.config import load_config
    from pipeline.datasets import fetch
    from pipeline.layout import Layout
    from pipeline.local_runner import run_pipeline

    root = Path(tempfile.gettempdir()) / "tandem-bench-serving" / "root"
    root.mkdir(parents=True, exist_ok=True)
    fetch(DATASET, Layout(root).data, say)
    result = run_pipeline(load_config(DATASET), root, lambda stage: say(f"  {stage}"))
    if result.refused:
        raise RuntimeError(f"no release to serve: {result.refused[0].reason}")
    return root


def query_rows(
    tables: ReleaseTables, signature, number: int, length: int
) -> list[dict]:
    """Returns what to ask for the first users, over and over: inputs of one row each.

    Args:
        tables: of the release.
        signature: SignatureDef of a query: user, history and features.
        number: of rows.
        length: of the histories, "" pads.
    """
    users = tables.some_user_ids(min(number, 200))
    profiles = [tables.profile(user) for user in users]
    rows = []
    for place in range(number):
        profile = profiles[place % len(profiles)]
        history = profile.history_item_ids[-length:]
        padded = [""] * (length - len(history)) + history
        row = {
            "user_id": np.array([profile.user_id], object),
            "history_item_ids": np.array([padded], object),
        }
        for name in set(signature.inputs) - set(row):
            value = profile.features.get(name)
            row[name] = feature_array(name, value, signature.inputs[name])
        rows.append(row)
    return rows


def asked_by(
    target: str, model: str, signature_name: str, tables: ReleaseTables, number: int
) -> list[dict]:
    """Returns what to ask a server's model for the first users, by its own signature."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = model
    request.metadata_field.append("signature_def")
    with grpc.insecure_channel(target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        answer = stub.GetModelMetadata(request, timeout=30)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    signature = signatures.signature_def[signature_name]
    return query_rows(tables, signature, number, HISTORY)


def predict_message(model: str, signature: str, inputs: dict) -> bytes:
    """Returns a Predict request as it goes over the wire."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tensor_codec.encode(array))
    return request.SerializeToString()


def write_messages(path: Path, messages: Sequence[bytes]) -> Path:
    """Writes messages, each behind its length; see `serving_load`."""
    with path.open("wb") as writer:
        for message in messages:
            writer.write(len(message).to_bytes(8, "big") + message)
    return path


def stacked(rows: list[dict]) -> dict[str, np.ndarray]:
    """Returns the rows as one request."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
