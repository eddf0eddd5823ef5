"""Requests keep their pace whatever becomes of them, and swaps are counted as they were."""

import asyncio
import time

import grpc
import pytest

from benchmarks.serving_swap import Seen, SwappedRoot, figures_of
from benchmarks.serving_traffic import Answers, send_steadily
from serving.release_layout import MODELS, release_dir


class Refused(grpc.aio.AioRpcError):
    def __init__(self):
        super().__init__(grpc.StatusCode.UNAVAILABLE, None, None)


def sent_over(seconds, call, rate):
    async def run():
        stop = asyncio.Event()
        sending = asyncio.create_task(send_steadily(call, [b"a", b"b"], rate, stop))
        await asyncio.sleep(seconds)
        stop.set()
        return await sending

    return asyncio.run(run())


def test_a_server_that_stands_still_is_asked_no_less_and_judged_by_it():
    begin, asked = time.perf_counter(), []

    async def call(message):
        asked.append(message)
        await asyncio.sleep(max(0.0, 0.4 - (time.perf_counter() - begin)))

    answers = sent_over(0.5, call, rate=50)
    assert 15 <= len(asked) == len(answers.ms)
    assert set(asked) == {b"a", b"b"}
    assert answers.percentile(0.99) > 300  # of a client that waits, one request alone
    assert answers.failures == 0


def test_failures_are_counted_by_status_and_not_timed():
    async def call(message):
        raise Refused

    answers = sent_over(0.1, call, rate=100)
    assert answers.ms == []
    assert answers.failed == {"UNAVAILABLE": answers.failures}
    assert answers.failures > 2
    assert answers.percentile(0.5) == float("inf")


@pytest.fixture
def source(tmp_path):
    for model in MODELS:
        (tmp_path / model / "5").mkdir(parents=True)
        (tmp_path / model / "5" / "saved_model.pb").write_text(model)
    release_dir(tmp_path, 5).mkdir(parents=True)
    (release_dir(tmp_path, 5) / "manifest.json").write_text("{}")
    return tmp_path


def test_a_push_leaves_the_next_version_of_each_model_alone(source, tmp_path_factory):
    root = SwappedRoot(source, tmp_path_factory.mktemp("swapped"))
    assert [root.push(), root.push()] == [6, 7]
    for model in MODELS:
        (version,) = (root.root / model).iterdir()
        assert (version.name, (version / "saved_model.pb").read_text()) == ("7", model)


def test_swap_figures_hold_failures_ratios_and_growth():
    steady = [Answers([1.0] * 99 + [2.0], {}), Answers([1.0] * 100, {})]
    swapping = [Answers([1.0] * 90 + [6.0] * 10, {"UNAVAILABLE": 2})] * 2
    seen = Seen(steady, swapping, swap_s=[1.0, 3.0, 2.0], rss_mib=[50.0, 100.0, 109.0])
    figures, intervals = figures_of(seen)
    assert figures["failed_requests"] == 4
    assert figures["requests"] == 404
    assert figures["p99_ratio_during_swaps"] == pytest.approx((3 + 6) / 2)
    assert intervals["p99_ratio_during_swaps"] == (3, 6)
    assert figures["rss_growth"] == pytest.approx(1.09)
    assert figures["swap_s"] == 2
