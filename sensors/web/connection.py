"""Connections: one that is open and asks for nothing is closed, so that others find room."""

import asyncio
import resource
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

IDLE_SECONDS = 15.0
"""How long a client may take to ask; what it sends after its request has limits of its own."""
MOST_CONNECTIONS = 1000
"""More are answered with 503."""


class ImpatientProtocol(H11Protocol):
    """Uvicorn's protocol, which by itself waits for ever for a request's first line and its headers."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to look whether it is used."""
        super().connection_made(transport)
        self._seen: Any = object()
        self._look_again()

    def _look_again(self) -> None:
        self._looking = self.loop.call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        cycle: RequestResponseCycle | None = cast(Any, self).cycle  # None until it asks
        is_idle = cycle is None or cycle.response_complete
        if is_idle and self._seen is cycle:
            self.transport.close()
            return
        self._seen = cycle if is_idle else object()
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self._looking.cancel()
        super().connection_lost(exc)


def allow_connections() -> None:
    """Raise this process's limit of open files, which many systems set to about as many as there may be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * MOST_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
