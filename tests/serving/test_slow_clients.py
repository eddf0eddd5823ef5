"""Who connects and does not ask is hung up on, and holds no place meanwhile."""

import socket
import time

import pytest

from serving import grpc_transport, slow_clients
from serving.server import ModelServer
from tests.serving.toy_release import place

HEAD = b"POST /v1/models/recommender:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
ASK = b"GET /v1/models/recommender HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def server(good_bundle, tmp_path_factory):
    root = place(good_bundle, tmp_path_factory.mktemp("root"), 3, "recommender")
    patch = pytest.MonkeyPatch()
    patch.setattr(slow_clients, "HEAD_TIMEOUT_S", 0.5)
    patch.setattr(slow_clients, "BODY_TIMEOUT_S", 0.5)
    patch.setattr(grpc_transport, "_HANDSHAKE_TIMEOUT_MS", 500)
    patch.setattr(grpc_transport, "_MAX_CONNECTIONS", 3)
    with ModelServer(root, port=0, rest_port=0) as running:
        yield running
    patch.undo()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def status(connection: socket.socket) -> bytes:
    """Returns the status of the next answer, and reads all of it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    while len(body) < length:
        body += connection.recv(65536)
    return head.split()[1]


def seconds_until_hung_up(connection: socket.socket, drip: bytes) -> float:
    begin = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - begin < 10:
        try:
            connection.sendall(drip)
            if connection.recv(1) == b"":
                return time.monotonic() - begin
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - begin
    raise AssertionError("the connection was kept")


@pytest.mark.parametrize(
    ("begin", "drip"), [(b"", b""), (b"GET /v1/mo", b"x"), (ASK + b"GET /v", b"x")]
)
def test_rest_hangs_up_on_a_head_that_does_not_end(server, begin, drip):
    with connect(server.rest_port) as connection:
        connection.sendall(begin)
        if begin.startswith(ASK):
            assert status(connection) == b"200"
        assert 0.3 < seconds_until_hung_up(connection, drip) < 5


def test_rest_answers_408_where_the_body_is_late(server):
    with connect(server.rest_port) as connection:
        connection.sendall(HEAD + b"{")
        assert status(connection) == b"408"
        assert seconds_until_hung_up(connection, b"x") < 5


def test_rest_keeps_a_connection_that_asks_again(server):
    with connect(server.rest_port) as connection:
        for _ in range(4):
            connection.sendall(ASK)
            assert status(connection) == b"200"
            time.sleep(0.3)


def test_grpc_hangs_up_on_who_says_nothing(server):
    with connect(server.port) as connection:
        assert 0.3 < seconds_until_hung_up(connection, b"") < 5


def test_grpc_closes_connections_beyond_its_bound(server):
    connections = [connect(server.port) for _ in range(8)]
    try:
        time.sleep(0.2)
        closed = 0
        for connection in connections:
            connection.settimeout(0.05)
            try:
                closed += connection.recv(1) == b""
            except TimeoutError:
                pass
            except OSError:
                closed += 1
        assert closed >= 5
    finally:
        for connection in connections:
            connection.close()
