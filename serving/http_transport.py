"""How an ASGI application gets onto a port of this process's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from serving.errors import ServerStartError
from serving.slow_clients import ImpatientHttpProtocol

_KEEP_ALIVE_S = 75


class HttpTransport:
    """An HTTP server on an address; made and used within the event loop.

    Args:
        application: answers.
        host: address to listen on.
        port: 0 takes a free one.
        max_concurrent_requests: further ones are answered 503 at once.

    Attributes:
        port: that it listens on.

    Raises:
        ServerStartError: if the address cannot be had.
    """

    def __init__(
        self, application: ASGIApp, host: str, port: int, max_concurrent_requests: int
    ):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise ServerStartError(
                f"the server cannot listen on {host}:{port}: {error}. Is another server "
                "running there? Choose another port, or port 0 for a free one"
            ) from error
        self.port = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                application,
                http=ImpatientHttpProtocol,
                log_config=None,
                access_log=False,
                lifespan="off",
                limit_concurrency=max_concurrent_requests,
                timeout_keep_alive=_KEEP_ALIVE_S,
                server_header=False,
            )
        )
        self._serving: asyncio.Task | None = None

    async def start(self) -> None:
        """Answers from now on."""
        self._serving = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
            await asyncio.sleep(0.01)

    async def stop(self, grace_s: float) -> None:
        """Refuses new requests, waits for the running ones."""
        if self._serving is None:
            self._socket.close()
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
