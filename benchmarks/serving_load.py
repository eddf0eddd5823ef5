"""A client that costs little: it sends messages made before, and reads no answer.

Run as `python -m benchmarks.serving_load TARGET FILE`: for each line `REQUESTS CONCURRENT` of
its input it sends so many, so many at a time, and writes the median time in ms. Needs no
TensorFlow.
"""

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def read_messages(path: Path) -> list[bytes]:
    """Returns messages that stand one after the other, each behind its length."""
    data, messages, place = path.read_bytes(), [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 8], "big")
        messages.append(data[place + 8 : place + 8 + size])
        place += 8 + size
    return messages


async def send(
    call: grpc.aio.UnaryUnaryMultiCallable,
    messages: Iterator[bytes],
    requests: int,
    concurrent: int,
) -> list[float]:
    """Sends requests and returns the time of each in ms."""
    left, taken = iter(range(requests)), []

    async def worker() -> None:
        for _ in left:
            begin = time.perf_counter()
            await call(next(messages))
            taken.append(1e3 * (time.perf_counter() - begin))

    await asyncio.gather(*(worker() for _ in range(concurrent)))
    return taken


async def serve_lines(target: str, file: Path) -> None:
    """Does what the lines of the input say, until they end."""
    messages = itertools.cycle(read_messages(file))
    async with grpc.aio.insecure_channel(target) as channel:
        call = channel.unary_unary(PREDICT)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            requests, concurrent = map(int, line.split())
            taken = await send(call, messages, requests, concurrent)
            print(statistics.median(taken), flush=True)


if __name__ == "__main__":
    asyncio.run(serve_lines(sys.argv[1], Path(sys.argv[2])))
