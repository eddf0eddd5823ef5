"""The gRPC side of the server: official stubs on grpc.aio, TensorFlow on a thread pool.

grpc.aio and not the threaded server: one event loop holds any number of slow or idle
connections, cancels what a client gave up on before it reaches the model, and is where
batching queues and the HTTP application live too. TensorFlow releases the GIL while it
computes, so the graph itself runs on a small pool of threads.
"""

import dataclasses
from collections.abc import Awaitable
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from serving import example_service, model_service, prediction_service
from serving.calls import Calls
from serving.errors import RequestError, ServerStartError
from serving.request_log import RequestLog

_ENTRYPOINT = "GRPC"
_MAX_CONNECTIONS = 4096  # further ones are closed as they come
_HANDSHAKE_TIMEOUT_MS = 20_000  # who connects and says nothing is hung up on


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client may ask of the server.

    Attributes:
        max_message_mib: larger requests and responses are RESOURCE_EXHAUSTED.
        max_concurrent_requests: further ones are RESOURCE_EXHAUSTED at once, instead of
            waiting in memory for an answer nobody awaits any more.
    """

    max_message_mib: int
    max_concurrent_requests: int


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService over the models of a store."""

    def __init__(self, calls: Calls, log: RequestLog):
        self._calls = calls
        self._log = log

    async def Predict(self, request, context):
        answer = self._calls.predict(
            _ENTRYPOINT,
            request.model_spec,
            lambda model: prediction_service.read_request(model, request),
            lambda version, outputs: prediction_service.write_response(
                version, request, outputs
            ),
        )
        response = await _or_abort(answer, context)
        self._log.offer(response.model_spec, request, response)
        return response

    async def Classify(self, request, context):
        response = await self._answer(
            "Classify", request, request.model_spec, context, example_service.classify
        )
        self._log.offer(response.model_spec, request, response)
        return response

    async def Regress(self, request, context):
        response = await self._answer(
            "Regress", request, request.model_spec, context, example_service.regress
        )
        self._log.offer(response.model_spec, request, response)
        return response

    async def MultiInference(self, request, context):
        if not request.tasks:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                "Inference request must contain at least one task.",
            )
        response = await self._answer(
            "MultiInference",
            request,
            request.tasks[0].model_spec,
            context,
            example_service.multi_inference,
        )
        self._log.offer(response.results[0].model_spec, request, response)
        return response

    async def GetModelMetadata(self, request, context):
        if not request.HasField("model_spec"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec")
        return await self._answer(
            "GetModelMetadata",
            request,
            request.model_spec,
            context,
            prediction_service.get_model_metadata,
        )

    async def _answer(self, api, request, spec, context, answer):
        return await _or_abort(
            self._calls.on_model(
                api,
                _ENTRYPOINT,
                spec,
                lambda model, version: answer(model, version, request),
            ),
            context,
        )


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """ModelService over a model store."""

    def __init__(self, calls: Calls, root: Path):
        self._calls = calls
        self._root = root

    async def GetModelStatus(self, request, context):
        return await self._answer(
            lambda: model_service.get_model_status(self._calls.store, request), context
        )

    async def HandleReloadConfigRequest(self, request, context):
        return await self._answer(
            lambda: model_service.reload_config(self._calls.store, self._root, request),
            context,
        )

    async def _answer(self, work, context):
        return await _or_abort(self._calls.off_loop(work), context)


class UnreadableMessages(grpc.aio.ServerInterceptor):
    """Answers what is no message of its kind by INTERNAL, as gRPC in C++ does.

    Python's says UNKNOWN, which clients read as a fault of the server that may pass.
    """

    async def intercept_service(self, continuation, handler_call_details):
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        def read(data: bytes) -> object:
            try:
                return handler.request_deserializer(data)
            except DecodeError as error:
                return error

        async def answer(request, context):
            if isinstance(request, DecodeError):
                await context.abort(
                    grpc.StatusCode.INTERNAL, f"the message cannot be read: {request}"
                )
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer, read, handler.response_serializer
        )


async def _or_abort(answer: Awaitable, context: grpc.aio.ServicerContext) -> object:
    try:
        return await answer
    except RequestError as error:
        return await context.abort(error.code, error.message)


class GrpcTransport:
    """A gRPC server on an address; made and used within the event loop.

    Args:
        calls: answers.
        log: is offered what was answered.
        root: the serving root.
        address: "host:port"; port 0 takes a free one.
        limits: of a request, and of their number.
        credentials: for TLS; None listens in plain text.

    Attributes:
        port: that it listens on.

    Raises:
        ServerStartError: if the address cannot be had.
    """

    def __init__(
        self,
        calls: Calls,
        log: RequestLog,
        root: Path,
        address: str,
        limits: Limits,
        credentials: grpc.ServerCredentials | None = None,
    ):
        size = limits.max_message_mib << 20
        self._server = grpc.aio.server(
            interceptors=[UnreadableMessages()],
            options=[
                ("grpc.max_receive_message_length", size),
                ("grpc.max_send_message_length", size),
                # With port sharing, a second server on the same port would start, and
                # take half of the first one's requests.
                ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_TIMEOUT_MS),
                ("grpc.max_allowed_incoming_connections", _MAX_CONNECTIONS),
            ],
            maximum_concurrent_rpcs=limits.max_concurrent_requests,
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionServicer(calls, log), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelServicer(calls, root), self._server
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.port = self._bind(address, credentials)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        reason = "the port could not be bound"
        try:
            if credentials:
                port = self._server.add_secure_port(address, credentials)
            else:
                port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            port, reason = 0, str(error)
        if not port:
            raise ServerStartError(
                f"the server cannot listen on {address}: {reason}. Is another server "
                "running there? Choose another port, or port 0 for a free one"
            )
        return port

    async def start(self) -> None:
        """Answers from now on, and says so to who asks for its health."""
        await self._server.start()
        serving = health_pb2.HealthCheckResponse.SERVING
        for name in ("", "tensorflow.serving.PredictionService"):
            await self._health.set(name, serving)

    async def stop(self, grace_s: float) -> None:
        """Says that it is unhealthy, refuses new calls, waits for the running ones."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
