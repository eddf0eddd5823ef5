"""The load is what it says: messages whole, each sent, so many at a time."""

import asyncio
import itertools
import os

import numpy as np
import pytest

from benchmarks.measure import cpu_seconds_of
from benchmarks.served_root import stacked, write_messages
from benchmarks.serving_load import read_messages, send


def test_messages_survive_their_file(tmp_path):
    messages = [b"", b"a" * 300, bytes(range(256))]
    assert read_messages(write_messages(tmp_path / "file", messages)) == messages


class Call:
    """Notes what is sent, and how much of it at a time."""

    def __init__(self):
        self.sent = []
        self.now = self.most = 0

    async def __call__(self, message):
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        self.sent.append(message)


@pytest.mark.parametrize(("requests", "concurrent"), [(7, 1), (9, 3), (2, 5)])
def test_load_sends_all_of_them_so_many_at_a_time(requests, concurrent):
    call = Call()
    messages = itertools.cycle([b"a", b"b"])
    taken = asyncio.run(send(call, messages, requests, concurrent))
    assert len(taken) == len(call.sent) == requests
    assert call.most == min(requests, concurrent)
    assert min(taken) >= 1
    assert set(call.sent) == {b"a", b"b"}


def test_rows_are_stacked_in_order():
    rows = [{"x": np.array([[n, n]])} for n in range(3)]
    assert stacked(rows)["x"].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_cpu_seconds_grow_with_work():
    begin = cpu_seconds_of(os.getpid())
    while cpu_seconds_of(os.getpid()) < begin + 0.03:
        sum(range(10_000))
    with pytest.raises(ProcessLookupError):
        cpu_seconds_of(2**22 + 1)
