"""What is acknowledged is in the log, once, whatever ended the process."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from serving.event_store import EventStore


def event(number: int, user="ana", at=None, kind="click", item=None) -> dict:
    return {
        "event_id": f"e{number}",
        "timestamp": 1000 * number if at is None else at,
        "user_id": user,
        "item_id": item or f"i{number}",
        "event_type": kind,
        "note": "é",
    }


@pytest.fixture
def store(tmp_path):
    opened = EventStore(tmp_path / "events" / "events.db")
    yield opened
    opened.close()


def read(files) -> list[dict]:
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_an_event_sent_again_stays_as_it_was(store):
    assert store.append([event(1), event(2)]) == 2
    changed = {**event(2), "item_id": "other"}
    assert store.append([changed, event(3), event(3)]) == 1
    assert len(store) == 3
    assert store.past("ana", ["click"], 10_000, 10)[1] == (2000, "i2")


def test_events_are_taken_all_or_none(store):
    with pytest.raises(ValueError, match="item_id"):
        store.append([event(1), {**event(2), "item_id": ""}])
    with pytest.raises(ValueError, match="user_id"):
        store.append([{key: v for key, v in event(1).items() if key != "user_id"}])
    assert len(store) == 0


def check_past(past):
    """The latest events before a moment, of the types asked for, oldest first."""
    assert past("ana", ["click", "like"], 5000, 10) == [
        (1000, "i1"),
        (2000, "i2"),
        (2000, "i8"),
        (4000, "i4"),
    ]
    assert past("ana", ["click", "like"], 5000, 2) == [(2000, "i8"), (4000, "i4")]
    assert past("ana", ["like"], 5000, 10) == [(4000, "i4")]
    assert past("ana", [], 5000, 10) == []
    assert past("nobody", ["click"], 5000, 10) == []


@pytest.fixture
def filled(store):
    store.append(
        [
            event(4, kind="like"),
            event(1),
            event(2),
            event(8, at=2000),
            event(3, user="ben"),
            event(5),
            event(6, kind="impression", at=3000),
        ]
    )
    return store


def test_past(filled):
    check_past(filled.past)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda store: lambda u, t, before, most: store.past(u, t, before + 1, most),
        lambda store: lambda u, t, b, most: store.past(u, t, b, 10)[:most],
        lambda store: lambda u, t, b, most: store.past(u, t, b, most)[::-1],
        lambda store: lambda u, t, b, m: store.past(u, ["click", "like"], b, m),
    ],
)
def test_checker_rejects_wrong_pasts(filled, wrong):
    with pytest.raises(AssertionError):
        check_past(wrong(filled))


def test_segments_hold_every_event_once(store, tmp_path):
    folder = tmp_path / "log"
    assert store.write_segments(folder) == []
    store.append([event(n) for n in range(5)])
    first = store.write_segments(folder, most=2)
    assert [len(read([file])) for file in first] == [2, 2, 1]
    assert read(first) == [event(n) for n in range(5)]
    assert store.write_segments(folder) == []
    for file in first:
        file.unlink()  # read, and moved away
    store.append([event(5)])
    assert read(store.write_segments(folder)) == [event(5)]


def test_a_segment_that_was_not_noted_is_not_written_again(
    store, tmp_path, monkeypatch
):
    store.append([event(0)])
    monkeypatch.setattr(store, "_note_segment", _killed)
    with pytest.raises(KeyboardInterrupt):
        store.write_segments(tmp_path)
    monkeypatch.undo()
    store.append([event(1)])
    store.write_segments(tmp_path)
    assert read(sorted(tmp_path.glob("*.jsonl"))) == [event(0), event(1)]


def _killed(path):
    raise KeyboardInterrupt


def test_threads_lose_nothing(store):
    def work(first: int) -> None:
        for number in range(first, first + 20):
            store.append([event(number), event(number % 20)])

    threads = [threading.Thread(target=work, args=(20 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store) == 80


WRITER = """
import sys
from pathlib import Path
from serving.event_store import EventStore
store = EventStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    store.append([{"event_id": f"e{number}", "timestamp": number, "user_id": "ana",
                   "item_id": "i", "event_type": "click"}])
    print(number, flush=True)
    number += 1
"""


def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path):
    path, acknowledged = tmp_path / "events.db", []
    for _ in range(3):
        # The last one acknowledged is sent again, as a client does that heard nothing.
        begin = acknowledged[-1] if acknowledged else 0
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(begin)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(10):
            acknowledged.append(int(process.stdout.readline()))
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
    store = EventStore(path)
    files = store.write_segments(tmp_path / "log")
    ids = [record["event_id"] for record in read(files)]
    assert len(ids) == len(set(ids))
    assert {f"e{number}" for number in acknowledged} <= set(ids)
    store.close()
