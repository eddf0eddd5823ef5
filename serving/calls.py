"""How a call reaches a model, whichever way it came in: lent, timed, counted."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import grpc
from tensorflow_serving.apis import model_pb2

from serving.errors import RequestError
from serving.metrics import ServerMetrics
from serving.model_store import ModelStore
from serving.saved_model import SavedModel

_LOG = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Calls:
    """Runs what calls ask for on a pool of threads, as TensorFlow blocks.

    Args:
        store: what is served.
        pool: threads that run the models.
        metrics: are told of each call.
    """

    def __init__(
        self, store: ModelStore, pool: ThreadPoolExecutor, metrics: ServerMetrics
    ):
        self.store = store
        self.metrics = metrics
        self._pool = pool

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
        begin = time.perf_counter()

        def work() -> Answer:
            with self.store.lend(spec) as (model, version):
                started = time.perf_counter()
                answer = compute(model, version)
                self.metrics.time_graph(spec.name, api, time.perf_counter() - started)
                return answer

        status = grpc.StatusCode.CANCELLED
        try:
            answer = await self.off_loop(work)
            status = grpc.StatusCode.OK
            return answer
        except RequestError as error:
            status = error.code
            raise
        finally:
            # Anybody can ask for any name: only those served may become a label.
            name = spec.name if self.store.states(spec.name) else ""
            seconds = time.perf_counter() - begin
            self.metrics.count_request(name, api, entrypoint, status.name, seconds)

    async def off_loop(self, work: Callable[[], Answer]) -> Answer:
        """Runs what blocks on the pool.

        Raises:
            RequestError: what `work` raised, or INTERNAL in place of other errors.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, work)
        except RequestError:
            raise
        except Exception as error:
            _LOG.exception("a request failed")
            raise RequestError(
                grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"
            ) from error
