"""The stream: a page that is open is told of every change, and need not be loaded again."""

from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent

from sensors.page.live import Change, Live, TooManyPagesError

FULL_MILLISECONDS = 60_000
"""After so long a page that got no stream asks again."""


def stream_route(live: Live, event_of: Callable[[Change], ServerSentEvent]) -> APIRouter:
    """Return the route; `event_of` makes what a page puts in the place of what it shows."""
    router = APIRouter(tags=["arrivals"])

    @router.get("/stream", response_class=EventSourceResponse)
    async def stream() -> AsyncIterator[ServerSentEvent]:
        """Tell all there is, and then every change, as server-sent events `inbox`, `arrival` and `services`."""
        try:
            async with live.page() as queue:
                while (change := await queue.get()) is not None:
                    yield event_of(change)
        except TooManyPagesError:
            yield ServerSentEvent(event="full", data="too many pages are open", retry=FULL_MILLISECONDS)

    return router
