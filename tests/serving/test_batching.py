"""Joined requests are answered as if each were alone, and nobody waits for ever."""

import asyncio
import time

import grpc
import numpy as np
import pytest

from serving.batching import Batcher
from serving.batching_settings import BatchingSettings, read_batching
from serving.errors import RequestError, ServerStartError, invalid_argument


class Doubler:
    """Answers twice each row's sum; notes the shapes that it was asked with."""

    def __init__(self, seconds: float = 0.0):
        self.shapes = []
        self.seconds = seconds

    async def run(self, model, signature, inputs, outputs):
        rows = inputs["x"]
        self.shapes.append(rows.shape)
        await asyncio.sleep(self.seconds)
        if (rows == 13).any():
            raise invalid_argument("13 is not liked here")
        if signature == "sizes" and not rows.ndim:
            return {"y": rows}
        if signature == "scalar":
            return {"y": np.array(1.0)}
        return {"y": 2 * rows.reshape(len(rows), -1).sum(axis=1), "n": inputs["s"]}


def request(*rows) -> dict[str, np.ndarray]:
    x = np.array(rows, np.float32)
    return {"x": x, "s": np.array([b"s%d" % r.sum() for r in x], object)}


def ask_all(settings, runner, requests, signature="f", batcher=Batcher):
    """Returns the answers, or errors, of requests sent at the same time."""

    async def ask():
        joins = batcher(settings, runner.run)
        asked = [joins.run(None, signature, inputs, ()) for inputs in requests]
        return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(ask())


SETTINGS = BatchingSettings(max_batch_size=8, batch_timeout_s=0.02, num_batch_threads=2)
REQUESTS = [
    request([1, 2], [3, 4]),
    request([5, 6]),
    request([7, 8], [9, 10], [11, 12]),
]


def check_batcher(implementation):
    """Every request gets its own rows, of one run for all of them."""
    runner = Doubler()
    answers = ask_all(SETTINGS, runner, REQUESTS, batcher=implementation)
    assert [answer["y"].tolist() for answer in answers] == [[6, 14], [22], [30, 38, 46]]
    names = [answer["n"].tolist() for answer in answers]
    assert names == [[b"s3", b"s7"], [b"s11"], [b"s15", b"s19", b"s23"]]
    assert runner.shapes == [(6, 2)]


class Alone(Batcher):
    async def run(self, model, signature, inputs, outputs):
        return await self._run(model, signature, inputs, outputs)


class Shifted(Batcher):
    async def run(self, model, signature, inputs, outputs):
        found = await super().run(model, signature, inputs, outputs)
        return {name: array[::-1] for name, array in found.items()}


def test_batcher():
    check_batcher(Batcher)


@pytest.mark.parametrize("wrong", [Alone, Shifted])
def test_checker_rejects_wrong_batchers(wrong):
    with pytest.raises(AssertionError):
        check_batcher(wrong)


def test_a_batch_has_its_size_at_most():
    runner = Doubler()
    ask_all(SETTINGS, runner, [request([n, n], [n, n], [n, n]) for n in range(5)])
    assert sorted(shape[0] for shape in runner.shapes) == [3, 6, 6]


def test_a_full_batch_waits_for_nobody():
    patient = BatchingSettings(max_batch_size=2, batch_timeout_s=30.0)
    begin = time.monotonic()
    ask_all(patient, Doubler(), [request([1, 1]), request([2, 2])])
    assert time.monotonic() - begin < 10


def test_what_cannot_be_joined_is_run_alone():
    runner = Doubler()
    large = request(*[[n, n] for n in range(9)])
    scalar = {"x": np.array(3.0), "s": np.array(b"s")}
    empty = {"x": np.zeros([0, 2], np.float32), "s": np.array([], object)}
    answers = ask_all(
        SETTINGS, runner, [large, scalar, empty, request([1, 1])], "sizes"
    )
    assert sorted(runner.shapes) == [(), (0, 2), (1, 2), (9, 2)]
    assert answers[0]["y"].tolist() == [4 * n for n in range(9)]


def check_scalars(implementation):
    """Those of equal `k` share a run, which has it once; nobody gets another's `k`."""
    runner = OfK()
    sizes = [3, 2, 3, 3]
    asked = [{**request([n, n]), "k": np.array(k)} for n, k in enumerate(sizes)]
    answers = ask_all(SETTINGS, runner, asked, batcher=implementation)
    assert [answer["y"].tolist() for answer in answers] == [
        [[4.0 * n] * k] for n, k in enumerate(sizes)
    ]
    assert sorted(shape[0] for shape in runner.shapes) == [1, 3]


class OfK(Doubler):
    """Answers as many columns as `k` says."""

    async def run(self, model, signature, inputs, outputs):
        found = await super().run(model, signature, inputs, outputs)
        return {"y": np.tile(found["y"][:, np.newaxis], int(inputs["k"]))}


class ScalarsLeftOut(Batcher):
    def _shapes(self, inputs):
        return tuple(sorted((name, array.ndim) for name, array in inputs.items()))


def test_requests_of_an_equal_scalar_are_joined():
    check_scalars(Batcher)


@pytest.mark.parametrize("wrong", [Alone, ScalarsLeftOut])
def test_scalar_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_scalars(wrong)


def test_lengths_that_differ_are_padded_only_where_that_is_allowed():
    requests = [request([1, 2, 3]), request([4])]
    runner = Doubler()
    answers = ask_all(SETTINGS, runner, requests)
    assert sorted(runner.shapes) == [(1, 1), (1, 3)]
    padding = BatchingSettings(
        max_batch_size=8, batch_timeout_s=0.02, pad_variable_length_inputs=True
    )
    padded = Doubler()
    assert [a["y"].tolist() for a in ask_all(padding, padded, requests)] == [
        a["y"].tolist() for a in answers
    ]
    assert padded.shapes == [(2, 3)]


def test_a_batch_is_filled_up_to_an_allowed_size():
    runner = Doubler()
    settings = BatchingSettings(
        max_batch_size=8, batch_timeout_s=0.02, allowed_batch_sizes=(1, 4, 8)
    )
    answers = ask_all(settings, runner, REQUESTS[:2])
    assert runner.shapes == [(4, 2)]
    assert [answer["y"].tolist() for answer in answers] == [[6, 14], [22]]


def test_a_bad_request_fails_alone():
    answers = ask_all(SETTINGS, Doubler(), [request([13, 0]), request([1, 2])])
    assert isinstance(answers[0], RequestError)
    assert answers[1]["y"].tolist() == [6]


def test_outputs_that_cannot_be_cut_apart_are_computed_one_by_one():
    runner = Doubler()
    answers = ask_all(SETTINGS, runner, REQUESTS, signature="scalar")
    assert [answer["y"].tolist() for answer in answers] == [1.0, 1.0, 1.0]
    assert [shape[0] for shape in runner.shapes] == [6, 2, 1, 3]


def test_too_much_waiting_is_refused():
    slow = Doubler(seconds=0.1)
    settings = BatchingSettings(max_batch_size=1, max_enqueued_batches=2)
    answers = ask_all(settings, slow, [request([n, n]) for n in range(5)])
    refused = [a for a in answers if isinstance(a, RequestError)]
    assert len(refused) == 3
    assert {error.code for error in refused} == {grpc.StatusCode.UNAVAILABLE}
    assert "max_enqueued_batches is 2" in refused[0].message


def test_who_gives_up_takes_nobody_along():
    async def ask():
        joins = Batcher(SETTINGS, Doubler().run)
        gone = asyncio.create_task(joins.run(None, "f", request([1, 2]), ()))
        stays = asyncio.create_task(joins.run(None, "f", request([3, 4]), ()))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask())["y"].tolist() == [14]


def test_batching_config_is_read(tmp_path):
    path = tmp_path / "batching.config"
    path.write_text(
        "max_batch_size { value: 32 } batch_timeout_micros { value: 1500 }\n"
        "num_batch_threads { value: 3 } allowed_batch_sizes: 8 allowed_batch_sizes: 32\n"
        "max_enqueued_batches { value: 7 } pad_variable_length_inputs: true"
    )
    assert read_batching(path) == BatchingSettings(32, 0.0015, 7, 3, (8, 32), True)


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size: 32",
        "max_batch_size { value: 0 }",
        "batch_timeout_micros { value: -1 }",
        "max_batch_size { value: 32 } allowed_batch_sizes: 8",
        "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
    ],
)
def test_batching_config_that_cannot_be_kept_to_is_named(tmp_path, text):
    path = tmp_path / "batching.config"
    path.write_text(text)
    with pytest.raises(ServerStartError, match=str(path)):
        read_batching(path)
