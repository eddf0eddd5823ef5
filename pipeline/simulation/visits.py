"""Simulated users at the HTTP API of a server that runs in a process of its own."""

import contextlib
import dataclasses
import http.client
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.simulation.world import (
    World,
    Worth,
    answer_event,
    item_number,
    user_id,
)
from serving.errors import ServerStartError

_START_S, _STOP_S, _SWAP_S = 180.0, 60.0, 180.0
_POLL_S = 0.5
_ADDRESS = re.compile(r"^  (REST|HTTP API): (http://[^/]+)/")


@dataclasses.dataclass(frozen=True)
class Visits:
    """What a round of requests came to.

    Attributes:
        worths: of the slate of each request.
        releases: that answered.
        shown, clicks: events that the server acknowledged.
    """

    worths: list[Worth]
    releases: set[int]
    shown: int
    clicks: int


@dataclasses.dataclass(frozen=True)
class Server:
    """Addresses of a server.

    Attributes:
        http: of its HTTP API.
        rest: of TF Serving's REST API.
    """

    http: str
    rest: str

    def wait_for(self, release: int) -> None:
        """Waits until a release answers.

        Raises:
            ServerStartError: if it does not in time.
        """
        deadline = time.monotonic() + _SWAP_S
        connection = _connected(self.rest)
        with contextlib.closing(connection):
            while time.monotonic() < deadline:
                found = _asked(connection, "GET", "/v1/models/recommender")
                versions = found["model_version_status"]
                if {"version": str(release), "state": "AVAILABLE"} in [
                    {key: each[key] for key in ("version", "state")}
                    for each in versions
                ]:
                    return
                time.sleep(_POLL_S)
        raise ServerStartError(
            f"release {release} should answer within {_SWAP_S:g} s. Received: {versions}"
        )

    def visit(self, world: World, number: int, k: int) -> Visits:
        """Lets users ask for slates, and click.

        Args:
            world: of the users.
            number: of requests.
            k: items of a slate.
        """
        worths, releases, shown, clicks = [], set(), 0, 0
        connection = _connected(self.http)
        with contextlib.closing(connection):
            for user in world.visitors(number).tolist():
                question = {"user_id": user_id(user), "k": k, "seed": world.seed()}
                answer = _asked(connection, "POST", "/v1/recommend", question)
                slate = [item_number(item["item_id"]) for item in answer["items"]]
                releases.add(answer["release"])
                shown += len(slate)
                worths.append(world.worth(user, slate))
                events = [
                    answer_event(
                        answer["request_id"],
                        place,
                        user_id(user),
                        answer["items"][place]["item_id"],
                    )
                    for place in world.clicks(user, slate)
                ]
                if events:
                    taken = _asked(connection, "POST", "/v1/events", {"events": events})
                    clicks += taken["accepted"]
        return Visits(worths, releases, shown, clicks)


@contextlib.contextmanager
def served(root: Path) -> Iterator[Server]:
    """Runs `tandem serve` on a root for as long as the context lasts.

    Raises:
        ServerStartError: if it does not say in time where it listens.
    """
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--root", str(root)]
    ports = ("--port", "0", "--rest-port", "0", "--http-port", "0")
    process = subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True)
    try:
        yield _announced(process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _announced(process: subprocess.Popen[str]) -> Server:
    """Returns the addresses that a server prints as it starts."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + _START_S
    found: dict[str, str] = {}
    while set(found) != {"REST", "HTTP API"}:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = ""
        if not line:
            raise ServerStartError(
                f"`tandem serve` should say within {_START_S:g} s where it listens. "
                f"Received: {found}; it ended with {process.poll()}"
            )
        if address := _ADDRESS.match(line):
            found[address.group(1)] = address.group(2)
    return Server(found["HTTP API"], found["REST"])


def _connected(address: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=60)


def _asked(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None
) -> dict:
    """Returns the answer to a request.

    Raises:
        ServerStartError: if it is refused.
    """
    content = None if body is None else json.dumps(body)
    connection.request(
        method, path, content, {"Content-Type": "application/json"} if content else {}
    )
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise ServerStartError(
            f"{method} {path} should be answered. Received: {response.status} "
            f"{answer.decode(errors='replace')[:500]}"
        )
    return json.loads(answer)
