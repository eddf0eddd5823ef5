"""The REST side of the server: TF Serving's paths and bodies, as an ASGI application."""

import asyncio
import re
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving import example_service, prediction_service, rest_json, slow_clients
from serving.calls import Calls
from serving.errors import RequestError, invalid_argument
from serving.model_service import get_model_status
from serving.saved_model import SavedModel

_PATH = re.compile(
    r"/v1/models/(?P<name>[^/:]+)"
    r"(/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
    r"(?P<verb>:predict|:classify|:regress|/metadata)?"
)
HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def rest_application(
    calls: Calls, max_body_mib: int, metrics_path: str | None
) -> Starlette:
    """Returns the application.

    Args:
        calls: answers.
        max_body_mib: larger bodies are refused by 413, unread.
        metrics_path: where Prometheus finds the metrics; None serves none.
    """
    api = _RestApi(calls, max_body_mib << 20)
    routes = [Route("/v1/models/{rest:path}", api.answer, methods=["GET", "POST"])]
    if metrics_path:
        routes.append(Route(metrics_path, api.metrics, methods=["GET"]))
    return Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _refused,
            RequestError: _failed,
            ClientDisconnect: _gone,
        },
    )


class _RestApi:
    def __init__(self, calls: Calls, max_body: int):
        self._calls = calls
        self._max_body = max_body

    async def answer(self, request: Request) -> Response:
        # The decoded path is not matched: a name may hold an escaped slash or colon.
        found = _PATH.fullmatch(request.url.path)
        verb = found["verb"] if found else None
        is_post = request.method == "POST"
        if not found or is_post != (verb is not None and verb.startswith(":")):
            raise invalid_argument(
                f"Malformed request: {request.method} {request.url.path}"
            )
        spec = model_pb2.ModelSpec(name=found["name"])
        if found["version"]:
            spec.version.value = int(found["version"])
        elif found["label"]:
            spec.version_label = found["label"]
        if is_post:
            body = rest_json.parse_object(await read_body(request, self._max_body))
            spec.signature_name = _signature_name(body)
            answers = {
                ":predict": self._predict,
                ":classify": self._classify,
                ":regress": self._regress,
            }
            return _json(await answers[verb](spec, body))
        if verb:
            return _json(await self._metadata(spec))
        return _json(await self._calls.off_loop(lambda: self._status(spec)))

    async def metrics(self, request: Request) -> Response:
        return Response(self._calls.metrics.exposition(), media_type=_TEXT)

    async def _predict(self, spec: model_pb2.ModelSpec, body: dict[str, Any]) -> object:
        is_rows = False

        def read(model: SavedModel) -> prediction_service.Run:
            nonlocal is_rows
            name, signature = prediction_service.named_signature(model, spec)
            inputs, is_rows = rest_json.predict_inputs(body, signature)
            for alias, array in inputs.items():
                expected = signature.inputs[alias].tensor_shape
                prediction_service.check_shape(alias, array.shape, expected)
            return prediction_service.Run(name, inputs, [])

        def write(version: int, outputs: dict[str, np.ndarray]) -> object:
            return rest_json.predict_answer(outputs, is_rows)

        return await self._calls.predict("REST", spec, read, write)

    async def _classify(
        self, spec: model_pb2.ModelSpec, body: dict[str, Any]
    ) -> object:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        _fill_input(request.input, body)

        def compute(model: SavedModel, version: int) -> object:
            answer = example_service.classify(model, version, request)
            return {
                "results": [
                    [[one.label, one.score] for one in row.classes]
                    for row in answer.result.classifications
                ]
            }

        return await self._calls.on_model("Classify", "REST", spec, compute)

    async def _regress(self, spec: model_pb2.ModelSpec, body: dict[str, Any]) -> object:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        _fill_input(request.input, body)

        def compute(model: SavedModel, version: int) -> object:
            answer = example_service.regress(model, version, request)
            return {"results": [row.value for row in answer.result.regressions]}

        return await self._calls.on_model("Regress", "REST", spec, compute)

    async def _metadata(self, spec: model_pb2.ModelSpec) -> object:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[prediction_service.SIGNATURE_DEF_FIELD]
        )

        def compute(model: SavedModel, version: int) -> object:
            answer = prediction_service.get_model_metadata(model, version, request)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            answer.metadata[prediction_service.SIGNATURE_DEF_FIELD].Unpack(signatures)
            return {
                "model_spec": _plain(answer.model_spec),
                "metadata": {
                    prediction_service.SIGNATURE_DEF_FIELD: _plain(signatures)
                },
            }

        return await self._calls.on_model("GetModelMetadata", "REST", spec, compute)

    def _status(self, spec: model_pb2.ModelSpec) -> object:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return _plain(get_model_status(self._calls.store, request))


async def read_body(request: Request, most: int) -> bytes:
    """Returns a request's body.

    Raises:
        HTTPException: 413 if it has more than `most` bytes, 408 if it does not come in
            time; the rest is not read.
    """
    parts, size = [], 0
    try:
        async with asyncio.timeout(slow_clients.BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise HTTPException(
                        413, f"the body should have at most {most} bytes"
                    )
                parts.append(part)
    except TimeoutError:
        raise HTTPException(
            408, f"the body should come within {slow_clients.BODY_TIMEOUT_S:g} s"
        ) from None
    return b"".join(parts)


def _signature_name(body: dict[str, Any]) -> str:
    name = body.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument("'signature_name' key must be a string value.")
    return name


def _fill_input(target: input_pb2.Input, body: dict[str, Any]) -> None:
    examples, context = rest_json.examples_of(body)
    if context is None:
        target.example_list.examples.extend(examples)
    else:
        target.example_list_with_context.examples.extend(examples)
        target.example_list_with_context.context.CopyFrom(context)


def _plain(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _json(answer: object, status: int = 200) -> Response:
    return Response(rest_json.dumps(answer), status, media_type="application/json")


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return _json({"error": error.message}, HTTP_STATUS.get(error.code, 500))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        message = f"Malformed request: {request.method} {request.url.path}"
        return _json({"error": message}, error.status_code)
    return _json({"error": error.detail}, error.status_code)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it
