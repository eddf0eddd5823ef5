"""A client that sends requests at a steady rate, whatever becomes of the earlier ones.

Run as `python -m benchmarks.serving_traffic TARGET FILE RATE`: from the line `begin` of its
input to the line `end` it sends so many requests a second, each at its moment even if earlier
ones still wait, and then writes one JSON line: `{"ms": [...], "failed": {status: number}}`.
A request's time counts from when it was due, so that a server that stands still for a second
is not asked less and judged by that. Needs no TensorFlow.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc

from benchmarks.child import Child
from benchmarks.serving_load import PREDICT, read_messages

DEADLINE_S = 10.0


@dataclasses.dataclass(frozen=True)
class Answers:
    """What became of the requests of one stretch of time."""

    ms: list[float]  # of those that were answered
    failed: dict[str, int]  # how many ended with which status

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    def percentile(self, share: float) -> float:
        """Returns the time within which this share was answered."""
        if not self.ms:
            return float("inf")
        return sorted(self.ms)[min(int(share * len(self.ms)), len(self.ms) - 1)]


async def send_steadily(
    call: Callable[[bytes], Awaitable[object]],
    messages: Sequence[bytes],
    rate: float,
    stop: asyncio.Event,
) -> Answers:
    """Sends a message each 1 / rate seconds until told to stop.

    Args:
        call: sends one; raises `grpc.aio.AioRpcError` where it failed.
        messages: one after the other, over and over.
        rate: requests per second.
        stop: ends it, once all that were sent have been answered.
    """
    taken: list[float] = []
    failed: Counter[str] = Counter()

    async def one(message: bytes, due: float) -> None:
        try:
            await call(message)
        except grpc.aio.AioRpcError as error:
            failed[error.code().name] += 1
        else:
            taken.append(1e3 * (time.perf_counter() - due))

    begin, number, running = time.perf_counter(), 0, set()
    while not stop.is_set():
        due = begin + number / rate
        await asyncio.sleep(due - time.perf_counter())
        task = asyncio.create_task(one(messages[number % len(messages)], due))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
    await asyncio.gather(*running)
    return Answers(taken, dict(failed))


async def _serve_lines(target: str, file: Path, rate: float) -> None:
    messages = read_messages(file)
    loop = asyncio.get_running_loop()

    async def next_line() -> str:
        return await loop.run_in_executor(None, sys.stdin.readline)

    async with grpc.aio.insecure_channel(target) as channel:
        predict = channel.unary_unary(PREDICT)
        while await next_line():  # begin
            stop = asyncio.Event()
            sending = asyncio.create_task(
                send_steadily(
                    lambda message: predict(message, timeout=DEADLINE_S),
                    *(messages, rate, stop),
                )
            )
            await next_line()  # end
            stop.set()
            print(json.dumps(dataclasses.asdict(await sending)), flush=True)


class Traffic(Child):
    """The client as a process of its own.

    Args:
        target: of the server.
        file: holds the messages, one after the other, each behind its length.
        rate: requests per second.
    """

    def __init__(self, target: str, file: Path, rate: float):
        super().__init__("serving_traffic", target, file, rate)

    def begin(self) -> None:
        """Starts sending."""
        self.tell("begin")

    def end(self) -> Answers:
        """Stops sending; returns what became of it."""
        self.tell("end")
        return Answers(**json.loads(self.hear()))

    def over(self, seconds: float) -> Answers:
        """Sends for so long."""
        self.begin()
        time.sleep(seconds)
        return self.end()


if __name__ == "__main__":
    asyncio.run(_serve_lines(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
