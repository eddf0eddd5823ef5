"""How long a client may take to ask: a connection that says nothing is not kept for ever.

uvicorn waits without end for the head of a request, and counts the connection meanwhile:
as many of them as it accepts at a time would shut everybody out.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_TIMEOUT_S = 20.0
BODY_TIMEOUT_S = 60.0


class ImpatientHttpProtocol(H11Protocol):
    """HTTP/1.1 whose connections are closed where a request's head is late.

    Between two requests uvicorn's own time for keeping a connection alive counts.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Reads what came; more of the same head gives no more time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._late is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_TIMEOUT_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.transport.is_closing():
            self.transport.close()
