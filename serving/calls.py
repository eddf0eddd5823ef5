"""How a call reaches a model, whichever way it came in: lent, timed, counted."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
from tensorflow_serving.apis import model_pb2

from serving.batching import Arrays, Batcher
from serving.batching_settings import BatchingSettings
from serving.errors import RequestError
from serving.metrics import ServerMetrics
from serving.model_store import ModelStore
from serving.prediction_service import Run
from serving.saved_model import SavedModel

_PREDICT = "Predict"

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Calls:
    """Runs what calls ask for on a pool of threads, as TensorFlow blocks.

    Lives on the event loop.

    Args:
        store: what is served.
        pool: threads that run the models.
        metrics: are told of each call.
        batching: joins the runs of Predict calls; None runs each by itself.
    """

    def __init__(
        self,
        store: ModelStore,
        pool: ThreadPoolExecutor,
        metrics: ServerMetrics,
        batching: BatchingSettings | None = None,
    ):
        self.store = store
        self.metrics = metrics
        self._pool = pool
        self._batcher = Batcher(batching, self._run) if batching else None

    async def on_model(
        self,
        api: str,
        entrypoint: str,
        spec: model_pb2.ModelSpec,
        compute: Callable[[SavedModel, int], Answer],
    ) -> Answer:
        """Answers a call by a version of a model, lent for as long as that takes.

        Args:
            api: name of the call.
            entrypoint: "GRPC" or "REST".
            spec: which model and version.
            compute: (model, its version number) -> the answer.

        Raises:
            RequestError: what `compute` raised, or INTERNAL in place of other errors.
        """

        def work() -> Answer:
            with self.store.lend(spec) as (model, version):
                with self._timed(api, spec):
                    return compute(model, version)

        return await self._counted(api, entrypoint, spec, self.off_loop(work))

    async def predict(
        self,
        entrypoint: str,
        spec: model_pb2.ModelSpec,
        read: Callable[[SavedModel], Run],
        write: Callable[[int, Arrays], Answer],
    ) -> Answer:
        """Answers a Predict call, joined with others where batching is on.

        Args:
            entrypoint: "GRPC" or "REST".
            spec: which model and version.
            read: model -> what is asked of it.
            write: (version number, what was computed) -> the answer.

        Raises:
            RequestError: as of `on_model`.
        """
        if self._batcher is None:

            def compute(model: SavedModel, version: int) -> Answer:
                run = read(model)
                return write(version, model.run(run.signature, run.inputs, run.outputs))

            return await self.on_model(_PREDICT, entrypoint, spec, compute)
        # Shielded: a client that goes must not end the loan of a model that still runs.
        batched = asyncio.shield(self._batched(self._batcher, spec, read, write))
        return await self._counted(_PREDICT, entrypoint, spec, batched)

    async def _batched(self, batcher: Batcher, spec, read, write):
        # Read and written here and not on the pool: two changes of threads cost more.
        with self.store.lend(spec) as (model, version):
            run = read(model)
            with self._timed(_PREDICT, spec):
                outputs = await batcher.run(
                    model, run.signature, run.inputs, run.outputs
                )
            return write(version, outputs)

    async def _run(
        self, model: SavedModel, signature: str, inputs: Arrays, outputs: Sequence[str]
    ) -> Arrays:
        return await self.off_loop(lambda: model.run(signature, inputs, outputs))

    async def _counted(
        self,
        api: str,
        entrypoint: str,
        spec: model_pb2.ModelSpec,
        answer: Awaitable[Answer],
    ) -> Answer:
        begin = time.perf_counter()
        status = grpc.StatusCode.CANCELLED
        try:
            with _internal_errors():
                found = await answer
            status = grpc.StatusCode.OK
            return found
        except RequestError as error:
            status = error.code
            raise
        finally:
            # Anybody can ask for any name: only those served may become a label.
            name = spec.name if self.store.states(spec.name) else ""
            seconds = time.perf_counter() - begin
            self.metrics.count_request(name, api, entrypoint, status.name, seconds)

    @contextlib.contextmanager
    def _timed(self, api: str, spec: model_pb2.ModelSpec) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.metrics.time_graph(spec.name, api, time.perf_counter() - begin)

    async def off_loop(self, work: Callable[[], Answer]) -> Answer:
        """Runs what blocks on the pool.

        Raises:
            RequestError: what `work` raised, or INTERNAL in place of other errors.
        """
        loop = asyncio.get_running_loop()
        with _internal_errors():
            return await loop.run_in_executor(self._pool, work)


@contextlib.contextmanager
def _internal_errors() -> Iterator[None]:
    """Makes an error that is no request's fault one that can be answered."""
    try:
        yield
    except RequestError:
        raise
    except Exception as error:
        _LOG.exception("a request failed")
        raise RequestError(
            grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
        ) from error
