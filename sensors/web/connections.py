"""Lingering: who is refused in the middle of sending is told why, and not merely cut off."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
