"""Is every event that was acknowledged in the log, exactly once, whenever the server is killed?

A server with the HTTP API takes in events from several clients, and is killed by SIGKILL in the
midst of it, after a random time, over and over. Clients send an event again until it is
acknowledged, under the same id, as the API asks them to; some send each twice. At the end the
log is exported as ingestion reads it, and every acknowledged id must be there once. The server
is forked from a process that has its imports done, so that a hundred starts take minutes and not
an hour; it is the whole server with a model of its own, ports and pollers included.

What SIGKILL cannot show is a power cut: that is SQLite's, with `synchronous = FULL`.
"""

import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.command_line import finish, parser_of, say
from benchmarks.result import Result, versions_of
from serving.event_store import EventStore

CLIENTS = 6
EVENTS_A_REQUEST = 5


@dataclasses.dataclass(frozen=True)
class Scale:
    """How often the server dies."""

    kills: int
    least_s: float = 0.1  # between its start and its end
    most_s: float = 0.6


FULL = Scale(100)
QUICK = Scale(5)


def serve(root: str, port: int) -> None:
    """Serves the HTTP API until killed; runs in a process of its own."""
    from serving.recommend_service import RecommendService, ServiceSettings
    from serving.release_tables import ReleaseTables
    from serving.server import HttpFront, ModelServer
    from serving.sqlite_profiles import SqliteProfiles

    folder = Path(root)
    events = EventStore(folder / "events.db")
    profiles = SqliteProfiles(folder / "profiles.db")
    settings = ServiceSettings({"click": True}, 50, "{}")
    front = HttpFront(
        port,
        lambda calls: RecommendService(calls, profiles, events, settings),
        lambda: ReleaseTables(1, folder),
    )
    with ModelServer(folder / "serving", 0, http=front):
        signal.pause()


def write_model(folder: Path) -> None:
    """Writes the smallest SavedModel that a server serves."""
    import tensorflow as tf

    module = tf.Module()
    double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(folder), signatures=double.get_concrete_function())


@dataclasses.dataclass
class Sent:
    """What clients know of their events."""

    acknowledged: set[str] = dataclasses.field(default_factory=set)
    requests: int = 0  # that were answered
    broken: int = 0  # that the server's end cut off


async def send(port: int, events: list[dict]) -> bool:
    """Sends events once; returns whether they were acknowledged."""
    body = json.dumps({"events": events}).encode()
    head = f"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    writer = None
    try:
        async with asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + body)
            status = await reader.readline()
            return b" 200 " in status
    except (OSError, TimeoutError):
        return False
    finally:
        if writer is not None:
            writer.close()


async def client(number: int, port: int, stop: asyncio.Event, sent: Sent) -> None:
    """Sends events until told to stop; again, until they are acknowledged."""
    request = 0
    while not stop.is_set():
        request += 1
        events = [
            {
                "event_id": f"{number}-{request}-{place}",
                "user_id": f"u{number}",
                "item_id": f"i{place}",
                "event_type": "click",
            }
            for place in range(EVENTS_A_REQUEST)
        ]
        while not await send(port, events):
            sent.broken += 1
            if stop.is_set():
                return
            await asyncio.sleep(0.02)
        sent.requests += 1
        sent.acknowledged.update(event["event_id"] for event in events)
        if number % 2 and not await send(port, events):  # as where an answer was lost
            sent.broken += 1


async def kill_over_and_over(
    root: Path, scale: Scale, port: int, seed: int, sent: Sent
) -> list[float]:
    """Starts and kills the server; returns how long each start took."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(list(_PRELOADED))
    chance = random.Random(seed)
    stop, starts = asyncio.Event(), []
    clients = [
        asyncio.create_task(client(number, port, stop, sent))
        for number in range(CLIENTS)
    ]
    for number in range(scale.kills):
        if number % 10 == 0:
            say(f"  kill {number} of {scale.kills}")
        process = forks.Process(target=serve, args=(str(root), port), daemon=True)
        begin, answered = time.monotonic(), sent.requests
        process.start()
        while sent.requests == answered and time.monotonic() - begin < 120:
            await asyncio.sleep(0.02)
        if sent.requests == answered:
            raise RuntimeError("the server took no event within two minutes")
        starts.append(time.monotonic() - begin)
        await asyncio.sleep(chance.uniform(scale.least_s, scale.most_s))
        process.kill()
        await asyncio.to_thread(process.join)
    stop.set()
    await asyncio.gather(*clients)
    return starts


_PRELOADED = (
    *("serving.server", "serving.calls", "serving.grpc_transport", "serving.http_api"),
    *("serving.sqlite_profiles", "serving.recommend_service", "serving.request_log"),
)


@dataclasses.dataclass(frozen=True)
class Account:
    """What the exported log holds of what was acknowledged."""

    lost: int  # acknowledged, and not there
    repeated: int  # there more than once
    torn: int  # requests of which a part is there


def account_of(lines: list[str], acknowledged: set[str]) -> Account:
    """Returns the account of an exported log."""
    counts = Counter(json.loads(line)["event_id"] for line in lines)
    requests = Counter(name.rpartition("-")[0] for name in counts)
    return Account(
        lost=len(acknowledged - set(counts)),
        repeated=sum(1 for number in counts.values() if number > 1),
        torn=sum(1 for number in requests.values() if number != EVENTS_A_REQUEST),
    )


def exported(root: Path) -> list[str]:
    """Returns the lines that ingestion would read."""
    store = EventStore(root / "events.db")
    with contextlib.closing(store):
        files = store.write_segments(root / "export", most=1000)
    return [line for file in files for line in file.read_text().splitlines()]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parser_of("serving_durability", __doc__).parse_args()
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    sent = Sent()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_model(root / "serving" / "model" / "1")
        port = _free_port()
        starts = asyncio.run(
            kill_over_and_over(root, scale, port, arguments.seed, sent)
        )
        account = account_of(exported(root), sent.acknowledged)
    result = Result(
        name="serving_durability",
        figures={
            "kills": float(scale.kills),
            "acknowledged_events": float(len(sent.acknowledged)),
            "lost_events": float(account.lost),
            "repeated_events": float(account.repeated),
            "torn_requests": float(account.torn),
            "requests_cut_off": float(sent.broken),
            "longest_start_s": max(starts),
        },
        intervals={},
        versions=versions_of("tensorflow", "uvicorn", "starlette"),
        data={**dataclasses.asdict(scale), "quick": arguments.quick},
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
