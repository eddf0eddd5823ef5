"""Requests of several clients, computed by one run of the graph.

A graph takes sixteen users in little more time than one, so under load requests that wait
anyway are joined along their first axis and their answers cut apart again. Lives on the
event loop: nothing here is called from another thread.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import grpc
import numpy as np

from serving.batching_settings import BatchingSettings
from serving.errors import RequestError
from serving.saved_model import SavedModel

Arrays = dict[str, np.ndarray]
Run = Callable[[SavedModel, str, Arrays, Sequence[str]], Awaitable[Arrays]]


@dataclasses.dataclass(eq=False)
class _Batch:
    """Requests that will be run together."""

    rows: int = 0
    inputs: list[Arrays] = dataclasses.field(default_factory=list)
    answers: list[asyncio.Future] = dataclasses.field(default_factory=list)
    is_closed: bool = False
    full: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def lengths(self) -> list[int]:
        """Returns the rows of each request."""
        return [
            next(len(array) for array in inputs.values() if array.ndim)
            for inputs in self.inputs
        ]


class Batcher:
    """Joins requests as its settings say.

    Args:
        settings: sizes and times.
        run: runs a signature on arrays, without blocking the event loop.
    """

    def __init__(self, settings: BatchingSettings, run: Run):
        self._settings = settings
        self._run = run
        self._free_threads = asyncio.Semaphore(settings.num_batch_threads)
        self._open: dict[tuple, _Batch] = {}  # of each kind, the one that still grows
        self._num_waiting = 0
        self._tasks: set[asyncio.Task] = set()  # the loop itself keeps none alive

    async def run(
        self, model: SavedModel, signature: str, inputs: Arrays, outputs: Sequence[str]
    ) -> Arrays:
        """Returns what the model answers to these inputs, as if they were alone.

        Inputs without a common first axis, and more rows than a batch may have, are run
        by themselves. A scalar, such as the `k` of `recommend`, holds for all rows of a
        run, so requests are joined where theirs are equal.

        Args:
            model: lent until this returns.
            signature: name of one of its signatures.
            inputs: an array by input.
            outputs: which to compute; none means all.

        Raises:
            RequestError: UNAVAILABLE if too much is waiting; what the run raises.
        """
        rows = _common_rows(inputs)
        if rows is None or not 0 < rows <= self._settings.max_batch_size:
            return await self._run(model, signature, inputs, outputs)
        kind = (model, signature, tuple(outputs), self._shapes(inputs))
        batch = self._open.get(kind)
        if batch and batch.rows + rows > self._settings.max_batch_size:
            self._close(kind, batch)
            batch = None
        if batch is None:
            batch = self._new_batch(kind, model, signature, outputs)
        answer = asyncio.get_running_loop().create_future()
        batch.rows += rows
        batch.inputs.append(inputs)
        batch.answers.append(answer)
        if batch.rows == self._settings.max_batch_size:
            self._close(kind, batch)
        return await answer

    def _shapes(self, inputs: Arrays) -> tuple:
        """Returns what requests must have in common to be joined."""
        is_padded = self._settings.pad_variable_length_inputs

        def of(array: np.ndarray) -> tuple:
            if array.ndim == 0:
                return "scalar", array.dtype, array.item()
            return "rows", array.ndim, None if is_padded else array.shape[1:]

        return tuple((name, *of(inputs[name])) for name in sorted(inputs))

    def _new_batch(
        self, kind: tuple, model: SavedModel, signature: str, outputs: Sequence[str]
    ) -> _Batch:
        limit = self._settings.max_enqueued_batches
        if self._num_waiting >= limit:
            raise RequestError(
                grpc.StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; "
                f"max_enqueued_batches is {limit}",
            )
        batch = _Batch()
        self._open[kind] = batch
        self._num_waiting += 1
        task = asyncio.create_task(self._serve(kind, batch, model, signature, outputs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return batch

    def _close(self, kind: tuple, batch: _Batch) -> None:
        """Lets nobody else into a batch."""
        if not batch.is_closed:
            batch.is_closed = True
            batch.full.set()
            del self._open[kind]

    async def _serve(
        self,
        kind: tuple,
        batch: _Batch,
        model: SavedModel,
        signature: str,
        outputs: Sequence[str],
    ) -> None:
        if self._settings.batch_timeout_s:
            try:
                async with asyncio.timeout(self._settings.batch_timeout_s):
                    await batch.full.wait()
            except TimeoutError:
                pass  # whoever is here goes
        async with self._free_threads:  # until one is free, the batch goes on growing
            self._num_waiting -= 1
            self._close(kind, batch)
            joined = self._joined(batch)
            is_alone = joined is batch.inputs[0]
            try:
                found = await self._run(model, signature, joined, outputs)
                parts: Sequence = [found] if is_alone else _cut(found, batch.lengths())
            except RequestError as error:
                parts = [error]
                if not is_alone:
                    # One of them is at fault: the others get their answers.
                    alone = [
                        self._run(model, signature, i, outputs) for i in batch.inputs
                    ]
                    parts = await asyncio.gather(*alone, return_exceptions=True)
            except Exception as error:
                parts = [error] * len(batch.answers)
        for answer, part in zip(batch.answers, parts, strict=True):
            if answer.done():  # its client has gone
                continue
            if isinstance(part, BaseException):
                answer.set_exception(part)
            else:
                answer.set_result(part)

    def _joined(self, batch: _Batch) -> Arrays:
        missing = self._settings.size_for(batch.rows) - batch.rows
        if len(batch.inputs) == 1 and not missing:
            return batch.inputs[0]
        return {
            name: _stacked([inputs[name] for inputs in batch.inputs], missing)
            if first.ndim
            else first
            for name, first in batch.inputs[0].items()
        }


def _common_rows(inputs: Arrays) -> int | None:
    """Returns the length of the first axis that all share, but scalars; None without."""
    lengths = {len(array) for array in inputs.values() if array.ndim}
    return lengths.pop() if len(lengths) == 1 else None


def _stacked(arrays: list[np.ndarray], missing: int) -> np.ndarray:
    """Returns the arrays on top of each other, padded at the end of the other axes.

    Args:
        arrays: [B_i, ...] each, of one dtype and rank.
        missing: how often the first row is repeated behind them.
    """
    shape = np.max([array.shape[1:] for array in arrays], axis=0, initial=0)
    rows = sum(len(array) for array in arrays)
    padding = b"" if arrays[0].dtype == object else arrays[0].dtype.type(0)
    stacked = np.full((rows + missing, *map(int, shape)), padding, arrays[0].dtype)
    start = 0
    for array in arrays:
        place = (slice(start, start + len(array)), *map(slice, array.shape[1:]))
        stacked[place] = array
        start += len(array)
    stacked[rows:] = stacked[:1]
    return stacked


def _cut(outputs: Arrays, rows: list[int]) -> list[Arrays]:
    """Returns each request's rows of the outputs; rows behind them are dropped."""
    ends = np.cumsum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) < ends[-1]:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th "
                f"dimension sizes of the input tensors: {name} has shape "
                f"{list(array.shape)}",
            )
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for size, end in zip(rows, ends, strict=True)
    ]
