"""A client that gets recommendations in one call or in two; see `serving_one_call`.

Run as `python -m benchmarks.serving_two_calls TARGET FOLDER`: for each line `WAY BATCH CONCURRENT
REQUESTS` of its input it sends so many requests and writes one JSON list, of each one's ms. Where
WAY is `same` it goes both ways, and writes how far the scores of the items that both found differ.
FOLDER holds, by number of users a request, what was made before: messages of `recommender` and of
`retrieval`, users' examples, and `items`: ids and examples of items in turns.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving_load import PREDICT, read_messages
from serving import tensor_codec

TOP = 10
WAYS = ("one", "two")


class TwoCalls:
    """Retrieves, then ranks.

    Args:
        predict: sends a request, returns the response's bytes.
        items: serialized tf.Example of each item's features, by id.
    """

    def __init__(
        self, predict: Callable[[bytes], Awaitable[bytes]], items: dict[bytes, bytes]
    ):
        self._predict, self._items = predict, items

    async def answer(
        self, query: bytes, users: Sequence[bytes]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns each user's best items and their scores.

        Args:
            query: request to `retrieval` for all of the users.
            users: serialized tf.Example of each one's own features.
        """
        found = _output(await self._predict(query), "item_ids")  # [B, K]
        ranked = await self._predict(self.ranking(users, found))
        scores = _output(ranked, "scores").reshape(found.shape)
        order = np.argsort(-scores, 1)[:, :TOP]
        return tuple(np.take_along_axis(x, order, 1) for x in (found, scores))

    def ranking(self, users: Sequence[bytes], found: np.ndarray) -> bytes:
        """Returns the request that ranks each user's candidates, [B, K] ids."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "ranking"
        tensor = request.inputs["examples"]
        tensor.dtype = types_pb2.DT_STRING
        # Two messages one behind the other are one that has the fields of both.
        for user, items in zip(users, found, strict=True):
            tensor.string_val.extend([user + self._items[item] for item in items])
        tensor.tensor_shape.dim.add(size=len(tensor.string_val))
        return request.SerializeToString()


def differences(one: Sequence[np.ndarray], two: Sequence[np.ndarray]) -> list[float]:
    """Returns how far scores of the same items differ.

    Args:
        one: ids and scores, [B, k] each.
        two: the same of the other way.
    """
    found = []
    for ids, scores, other_ids, other_scores in zip(*one, *two, strict=True):
        others = dict(zip(other_ids.tolist(), other_scores.tolist(), strict=True))
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        found += [abs(score - others[item]) for item, score in pairs if item in others]
    return found


def _output(response: bytes, name: str) -> np.ndarray:
    message = predict_pb2.PredictResponse.FromString(response)
    return tensor_codec.decode(message.outputs[name])


async def timed(
    answer: Callable[[int], Awaitable[object]], requests: int, concurrent: int
) -> list[float]:
    """Asks for number 0, 1, ..., so many at a time; returns each one's ms."""
    left, taken = iter(range(requests)), []

    async def worker() -> None:
        for number in left:
            begin = time.perf_counter()
            await answer(number)
            taken.append(1e3 * (time.perf_counter() - begin))

    await asyncio.gather(*(worker() for _ in range(concurrent)))
    return taken


async def serve_lines(target: str, folder: Path) -> None:
    """Does what the lines of the input say, until they end."""
    flat = read_messages(folder / "items")
    items = dict(zip(flat[::2], flat[1::2], strict=True))
    users = read_messages(folder / "users")
    loop = asyncio.get_running_loop()
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(target, options) as channel:
        predict = channel.unary_unary(PREDICT)
        two = TwoCalls(predict, items)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            way, *numbers = line.split()
            batch, concurrent, requests = map(int, numbers)
            if way == "same":
                one, other = (read_messages(folder / f"{x}_{batch}") for x in WAYS)
                apart = []
                for place, pair in enumerate(zip(one, other, strict=True)):
                    response = await predict(pair[0])
                    fused = [_output(response, name) for name in ("item_ids", "scores")]
                    own = users[place * batch : (place + 1) * batch]
                    apart += differences(fused, await two.answer(pair[1], own))
                print(json.dumps(apart), flush=True)
                continue
            messages = read_messages(folder / f"{way}_{batch}")

            async def answer(
                number: int, way=way, batch=batch, messages=messages
            ) -> object:
                place = number % len(messages)
                if way == "one":
                    return _output(await predict(messages[place]), "item_ids")
                own = users[place * batch : (place + 1) * batch]
                return await two.answer(messages[place], own)

            print(json.dumps(await timed(answer, requests, concurrent)), flush=True)


if __name__ == "__main__":
    asyncio.run(serve_lines(sys.argv[1], Path(sys.argv[2])))
