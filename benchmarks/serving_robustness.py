"""What do hostile requests, slow clients and floods of connections do to a server?

A server of its own process serves a MovieLens 100K release over gRPC and REST. While good
requests come at a steady rate (`serving_traffic`), hostile ones of `serving_hostile` are sent
over both, some at a time, and each answer's status is held against those that are right.
Then clients connect and do not ask, or drip a byte a second, and connections are opened by
the thousand; `slow_hung_up_s` is the time until the server has hung up on the last slow one.
Stretches with nothing but good requests come before and after.
"""

import asyncio
import contextlib
import dataclasses
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np

from benchmarks.command_line import finish, say
from benchmarks.result import Result, versions_of
from benchmarks.served_root import (
    asked_by,
    predict_message,
    root_parser,
    served_root,
    write_messages,
)
from benchmarks.serving_hostile import MODEL, GrpcAttacks, Hostile, RestAttacks
from benchmarks.serving_load import PREDICT
from benchmarks.serving_swap import resident_mib
from benchmarks.serving_traffic import Answers, Traffic
from serving.client import recommend_arguments
from serving.release_tables import latest_release
from serving.server_process import ServerProcess

USERS = 100
RATE = 20.0
CONCURRENT = 4  # hostile requests at a time, over each of gRPC and REST


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is sent."""

    requests: int  # hostile ones, half over gRPC and half over REST
    oversized: int  # of more bytes than the server takes
    slow: int  # clients that do not get on, on each port
    flood: int  # connections at once, on each port
    seconds: float  # of a stretch of good requests alone


FULL = Scale(requests=50_000, oversized=10, slow=300, flood=2_000, seconds=30.0)
QUICK = Scale(requests=1_200, oversized=2, slow=50, flood=300, seconds=5.0)


class HttpClient:
    """Sends one request after the other, as they are, over a connection."""

    def __init__(self, port: int):
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def status(self, path: str, body: bytes) -> int:
        """Returns the status that answers "METHOD /path" with this body."""
        head = f"{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(head.encode() + body)
        with contextlib.suppress(ConnectionError):  # it may refuse before it has read
            await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        fields = dict(
            line.split(b":", 1) for line in answer.split(b"\r\n")[1:] if b":" in line
        )
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
        status = int(answer.split()[1])
        if fields.get(b"connection", b"").strip() == b"close" or status == 413:
            writer.close()
            self._streams = None
        return status


@dataclasses.dataclass
class Tally:
    """What was answered."""

    sent: int = 0
    wrong: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)

    def note(self, hostile: Hostile, status: str | int) -> None:
        """Counts an answer."""
        self.sent += 1
        if status not in hostile.right:
            self.wrong[hostile.kind, str(status)] += 1


async def attack(
    attacks: Iterator[Hostile], number: int, make_send: Callable, tally: Tally
) -> None:
    """Sends so many hostile requests, `CONCURRENT` at a time."""
    left = iter(range(number))

    async def worker() -> None:
        send = make_send()
        for _ in left:
            hostile = next(attacks)
            try:
                status = await send(hostile)
            except (OSError, EOFError, asyncio.IncompleteReadError) as error:
                status = type(error).__name__
                send = make_send()
            tally.note(hostile, status)

    await asyncio.gather(*(worker() for _ in range(CONCURRENT)))


def grpc_sender(channel: grpc.aio.Channel) -> Callable:
    """Returns what sends over gRPC and returns the status's name."""

    async def send(hostile: Hostile) -> str:
        try:
            await channel.unary_unary(hostile.path)(hostile.body, timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    return send


async def attack_both(
    server: ServerProcess, grpc_side: GrpcAttacks, rest_side: RestAttacks, scale: Scale
) -> Tally:
    """Sends all hostile requests; returns what was answered."""
    tally = Tally()
    large = b"x" * (65 << 20)
    over_grpc = Hostile("oversized", PREDICT, large, frozenset({"RESOURCE_EXHAUSTED"}))
    path = f"POST /v1/models/{MODEL}:predict"
    over_rest = Hostile("oversized", path, large, frozenset({413}))
    assert server.rest_port is not None

    def http_sender() -> Callable:
        client = HttpClient(server.rest_port)
        return lambda hostile: client.status(hostile.path, hostile.body)

    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(server.target, options) as channel:
        half = scale.requests // 2
        await asyncio.gather(
            attack(grpc_side.forever(), half, lambda: grpc_sender(channel), tally),
            attack(rest_side.forever(), half, http_sender, tally),
        )
        for _ in range(scale.oversized):
            tally.note(over_grpc, await grpc_sender(channel)(over_grpc))
            tally.note(over_rest, await http_sender()(over_rest))
    return tally


async def hold_slowly(ports: dict[str, int], number: int, most_s: float) -> float:
    """Connects without asking, or asking a byte a second.

    Returns:
        Seconds until the server had hung up on the last; `most_s` if it never did.
    """
    begin = time.monotonic()
    words = {"grpc": b"PRI * HTTP/2.0\r\n", "rest": b"POST /v1/models/recommender"}

    async def one(kind: str, drips: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[kind])
        gone = asyncio.create_task(reader.read())
        try:
            while not gone.done() and time.monotonic() - begin < most_s:
                if drips:
                    at = int(time.monotonic() - begin) % len(words[kind])
                    writer.write(words[kind][at : at + 1])
                await asyncio.wait([gone], timeout=1.0)
        finally:
            gone.cancel()
            writer.close()

    await asyncio.gather(
        *(one(kind, bool(place % 2)) for kind in ports for place in range(number)),
        return_exceptions=True,
    )
    return time.monotonic() - begin


def flood(ports: dict[str, int], number: int) -> int:
    """Opens connections as fast as it can, then closes them; returns how many opened."""
    opened = []
    for port in ports.values():
        for _ in range(number):
            connection = socket.socket()
            connection.settimeout(5.0)
            try:
                connection.connect(("127.0.0.1", port))
            except OSError:
                connection.close()
                continue
            opened.append(connection)
    time.sleep(2.0)
    for connection in opened:
        connection.close()
    return len(opened)


def open_files(pid: int) -> int:
    """Returns how many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@dataclasses.dataclass
class Seen:
    """What became of it all."""

    before: Answers
    attacked: Answers
    slowed: Answers
    flooded: Answers
    after: Answers
    tally: Tally
    slow_s: float
    opened: int
    rss_mib: tuple[float, float]  # before and after
    files: tuple[int, int]
    crashes: int


def measured(source: Path, folder: Path, scale: Scale, seed: int) -> Seen:
    """Serves, and attacks what serves."""
    tables = latest_release(source)
    with ServerProcess(source, options=["--rest-port", "0"]) as server:
        asked = [
            asked_by(server.target, MODEL, signature, tables, USERS)
            for signature in ("serving_default", "recommend")
        ]
        default, recommend = (rows[0] for rows in asked)
        recommend = {**recommend, **recommend_arguments("196", [], [], 10, 1)}
        random = np.random.default_rng(seed)
        messages = [predict_message(MODEL, "serving_default", x) for x in asked[0]]
        file = write_messages(folder / "messages", messages)
        assert server.rest_port is not None
        ports = {"grpc": int(server.target.split(":")[1]), "rest": server.rest_port}
        pid = server.pid
        with Traffic(server.target, file, RATE) as traffic:
            traffic.over(3.0)
            before = traffic.over(scale.seconds)
            # The allocator's pools grow with the first requests of each kind.
            grpc_side = GrpcAttacks(default, recommend, random)
            rest_side = RestAttacks(default, random)
            warm = dataclasses.replace(scale, requests=200, oversized=1)
            asyncio.run(attack_both(server, grpc_side, rest_side, warm))
            held = (resident_mib(pid), open_files(pid))
            say(f"  {scale.requests:,} hostile requests")
            traffic.begin()
            tally = asyncio.run(attack_both(server, grpc_side, rest_side, scale))
            attacked = traffic.end()
            say(f"  {2 * scale.slow} slow clients")
            traffic.begin()
            slow_s = asyncio.run(hold_slowly(ports, scale.slow, 90.0))
            slowed = traffic.end()
            say(f"  {2 * scale.flood:,} connections at once")
            traffic.begin()
            opened = flood(ports, scale.flood)
            time.sleep(5.0)
            flooded = traffic.end()
            after = traffic.over(scale.seconds)
        crashes = int(not Path(f"/proc/{pid}").exists())
        rss_mib, files = (
            (first, last)
            for first, last in zip(
                held, (resident_mib(pid), open_files(pid)), strict=True
            )
        )
    return Seen(
        *(before, attacked, slowed, flooded, after, tally, slow_s, opened),
        *(rss_mib, files, crashes),
    )


def figures_of(seen: Seen) -> dict[str, float]:
    """Returns the benchmark's figures."""
    stretches = (seen.before, seen.attacked, seen.slowed, seen.flooded, seen.after)
    alone = seen.before.percentile(0.99)
    return {
        "requests": float(seen.tally.sent),
        "crashes": float(seen.crashes),
        "wrong_status": float(seen.tally.wrong.total()),
        "good_requests": float(sum(len(x.ms) + x.failures for x in stretches)),
        "good_requests_failed": float(sum(x.failures for x in stretches)),
        "slow_hung_up_s": seen.slow_s,
        "connections_opened": float(seen.opened),
        "rss_growth": seen.rss_mib[1] / seen.rss_mib[0],
        "open_files_left": float(seen.files[1] - seen.files[0]),
        "p99_ms_alone": alone,
        "p99_ratio_under_attack": seen.attacked.percentile(0.99) / alone,
        "p99_ratio_beside_slow_clients": seen.slowed.percentile(0.99) / alone,
        "p99_ratio_in_flood": seen.flooded.percentile(0.99) / alone,
        "p99_ratio_afterwards": seen.after.percentile(0.99) / alone,
    }


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = root_parser("serving_robustness", __doc__).parse_args()
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    source = served_root(arguments.root) / "serving"
    with tempfile.TemporaryDirectory() as folder:
        seen = measured(source, Path(folder), scale, arguments.seed)
    wrong = {" -> ".join(case): n for case, n in sorted(seen.tally.wrong.items())}
    for case, number in wrong.items():
        say(f"  wrong: {case}: {number}")
    result = Result(
        name="serving_robustness",
        figures=figures_of(seen),
        intervals={},
        versions=versions_of("tensorflow", "grpcio", "uvicorn", "h11"),
        data={**dataclasses.asdict(scale), "wrong": wrong, "quick": arguments.quick},
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())
