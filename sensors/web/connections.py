"""Connections: one that is open and asks for nothing is closed, so that others find room."""

import asyncio
import resource
from contextlib import suppress
from typing import Any, cast

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
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


# Lingering: who is refused in the middle of sending is told why, and not merely cut off.

LINGER_SECONDS = 2.0
"""For so long what a client is still sending is taken and thrown away once it has been answered."""


class Lingering:
    """ASGI middleware that has a connection closed only when its client could read the answer.

    Closed with bytes unread the kernel resets it, and whoever is still writing finds that instead of the answer: of
    an upload that is too large nginx makes a 502. RFC 9112, 9.6, tells servers to go on reading for a while.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and have its answer end when all of it has come or the time is over."""
        if scope["type"] != "http" or not _is_sending(scope):
            await self._app(scope, receive, send)
            return
        has_come = False

        async def noting() -> Message:
            nonlocal has_come
            message = await receive()
            has_come = not message.get("more_body", False)
            return message

        async def lingering(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not is_last or has_come:
                await send(message)
                return
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while not has_come:
                        await noting()
            await send({"type": "http.response.body"})

        await self._app(scope, noting, lingering)


def _is_sending(scope: Scope) -> bool:
    """Tell whether a body is on its way; one who asks first whether he may (Expect) sends none that is refused."""
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return has_body and b"expect" not in headers


# Headers: what every answer of the page tells the browser to keep to.

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""Nothing of another site, nothing written into the page itself: a file's name cannot become a script."""

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class SecurityHeaders:
    """ASGI middleware that adds them; what an answer sets itself stays."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, with the headers in its answer."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)
