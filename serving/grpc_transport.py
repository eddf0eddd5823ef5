"""The gRPC side of the server: official stubs on grpc.aio, TensorFlow on a thread pool.

grpc.aio and not the threaded server: one event loop holds any number of slow or idle
connections, cancels what a client gave up on before it reaches the model, and is where
batching queues and an HTTP application can live too. TensorFlow releases the GIL while
it computes, so the graph itself runs on a small pool of threads.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving import prediction_service
from serving.errors import RequestError, ServerStartError, invalid_argument
from serving.model_service import get_model_status
from serving.model_store import ModelStore

_LOG = logging.getLogger(__name__)


class _Runner:
    """Runs a blocking handler on the pool and turns its errors into statuses."""

    def __init__(self, pool: ThreadPoolExecutor):
        self._pool = pool

    async def run(
        self, handler: Callable, request: object, context: grpc.aio.ServicerContext
    ) -> object:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, handler, request)
        except RequestError as error:
            return await context.abort(error.code, error.message)
        except Exception as error:
            _LOG.exception("a request failed")
            return await context.abort(
                grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            )


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """PredictionService over a model store; other calls answer UNIMPLEMENTED."""

    def __init__(self, store: ModelStore, pool: ThreadPoolExecutor):
        self._store = store
        self._runner = _Runner(pool)

    async def Predict(self, request, context):
        return await self._runner.run(self._predict, request, context)

    async def GetModelMetadata(self, request, context):
        return await self._runner.run(self._get_model_metadata, request, context)

    def _predict(
        self, request: predict_pb2.PredictRequest
    ) -> predict_pb2.PredictResponse:
        with self._store.lend(request.model_spec) as (model, version):
            return prediction_service.predict(model, version, request)

    def _get_model_metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        with self._store.lend(request.model_spec) as (model, version):
            return prediction_service.get_model_metadata(model, version, request)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """ModelService over a model store."""

    def __init__(self, store: ModelStore, pool: ThreadPoolExecutor):
        self._store = store
        self._runner = _Runner(pool)

    async def GetModelStatus(self, request, context):
        return await self._runner.run(self._get_model_status, request, context)

    def _get_model_status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return get_model_status(self._store, request)


def bind(
    store: ModelStore,
    pool: ThreadPoolExecutor,
    address: str,
    max_message_mib: int,
    max_concurrent_requests: int,
) -> tuple[grpc.aio.Server, int]:
    """Creates a server on an address; call from within the event loop.

    Args:
        store: what is served.
        pool: threads that run the models.
        address: "host:port"; port 0 takes a free one.
        max_message_mib: larger requests and responses are RESOURCE_EXHAUSTED.
        max_concurrent_requests: further ones are RESOURCE_EXHAUSTED at once, instead of
            waiting in memory for an answer nobody awaits any more.

    Returns:
        (server, port): not started yet, and the port it will listen on.

    Raises:
        ServerStartError: if the address cannot be had.
    """
    limit = max_message_mib << 20
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            # With port sharing, a second server on the same port would start, and take
            # half of the first one's requests.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=max_concurrent_requests,
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionServicer(store, pool), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelServicer(store, pool), server
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        port, reason = 0, str(error)
    else:
        reason = "the port could not be bound"
    if not port:
        raise ServerStartError(
            f"the server cannot listen on {address}: {reason}. Is another server "
            "running there? Choose another port, or port 0 for a free one"
        )
    return server, port
