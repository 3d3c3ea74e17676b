"""The stream: a page that is open is told of every change, and need not be loaded again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from sensors.access.accounts import Role
from sensors.web.live import Change, Live, TooManyPagesError
from sensors.web.roles import needs

FULL_MILLISECONDS = 60_000
"""After so long a page that got no stream asks again."""


def stream_route(live: Live, event_of: Callable[[Change], ServerSentEvent]) -> APIRouter:
    """Return the route; `event_of` makes what a page puts in the place of what it shows."""
    router = APIRouter(tags=["arrivals"])

    # Entered by the request and not by the generator: one that was left suspended would keep its page, and have the
    # ledger looked at, until the garbage collector came by.
    async def page() -> AsyncIterator[asyncio.Queue[Change | None] | None]:
        try:
            async with live.page() as queue:
                yield queue
        except TooManyPagesError:
            yield None

    @router.get("/stream", dependencies=[needs(Role.LOOK)], response_class=EventSourceResponse)
    async def stream(
        queue: Annotated[asyncio.Queue[Change | None] | None, Depends(page)],
    ) -> AsyncIterator[ServerSentEvent]:
        """Send all there is, and then every change, as server-sent events `inbox`, `arrival` and `services`."""
        if queue is None:
            yield ServerSentEvent(event="full", data="too many pages are open", retry=FULL_MILLISECONDS)
            return
        while (change := await queue.get()) is not None:
            yield event_of(change)

    return router
