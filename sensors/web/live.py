"""Live updates: poll the ledger while pages are open, and send each change to the queues of all of them."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from starlette.concurrency import run_in_threadpool

from sensors.ledger import Ledger, LedgerError
from sensors.runtime.loop import DutyCycle
from sensors.web.attention import Services
from sensors.web.models import ArrivalView, InboxView

POLL_SECONDS = 0.25
LOOK_SHARE = 0.1
LONGEST_PAUSE_SECONDS = 3.0
"""The pause between two polls is POLL_SECONDS, or longer if polls keep taking so long that they would use more than
LOOK_SHARE of a core, but at most LONGEST_PAUSE_SECONDS, so that an open page does not seem to hang."""
QUEUED = 2000
"""How many changes may wait for a page that does not read them; then its stream ends and the page reconnects."""
MOST_PAGES = 200

Change = InboxView | ArrivalView | Services


class TooManyPagesError(Exception):
    """MOST_PAGES pages are open already."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of everything that pages show."""

    inboxes: dict[str, InboxView] = field(default_factory=dict[str, InboxView])
    arrivals: dict[str, ArrivalView] = field(default_factory=dict[str, ArrivalView])
    services: Services | None = None

    def changes_since(self, before: "Snapshot") -> Iterator[Change]:
        """Yield everything that is new or has changed, oldest arrivals first."""
        yield from (view for name, view in self.inboxes.items() if before.inboxes.get(name) != view)
        yield from (view for id_, view in reversed(self.arrivals.items()) if before.arrivals.get(id_) != view)
        if self.services is not None and self.services != before.services:
            yield self.services


class LedgerChanges:
    """Detects changes of the ledger at the cost of reading one number."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._version: int | None = None

    def seen(self) -> bool:
        """Return whether another connection has written since the last call; the first call returns True."""
        version = int(self._ledger.rows("PRAGMA data_version")[0][0])
        changed, self._version = version != self._version, version
        return changed


class Live:
    """Polls while at least one page is open, and only then."""

    def __init__(
        self,
        look: Callable[[], Snapshot],
        open_ledger: Callable[[], Ledger],
        services: Callable[[], Services | None] = lambda: None,
    ) -> None:
        """`look` reads a snapshot; `open_ledger` opens a connection only for polling; `services` must not wait."""
        self._look = look
        self._services = services
        self._open_ledger = open_ledger
        self._pages: set[asyncio.Queue[Change | None]] = set()
        self._latest = Snapshot()
        self._looking: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        """Held from reading a snapshot until it is sent and a new page has its queue: no page misses a change."""

    @asynccontextmanager
    async def page(self) -> AsyncGenerator[asyncio.Queue[Change | None]]:
        """Yield a queue of the present state followed by every change; None in it marks its end.

        Raises TooManyPagesError.
        """
        queue: asyncio.Queue[Change | None] = asyncio.Queue(QUEUED)
        async with self._reading:
            if len(self._pages) >= MOST_PAGES:
                raise TooManyPagesError
            self._tell(await run_in_threadpool(self._look))
            for change in self._latest.changes_since(Snapshot()):
                queue.put_nowait(change)
            self._pages.add(queue)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._keep_looking())
        try:
            yield queue
        finally:
            self._pages.discard(queue)

    async def _keep_looking(self) -> None:
        clock = asyncio.get_running_loop().time
        ledger = await run_in_threadpool(self._open_ledger)
        try:
            changes, duty = LedgerChanges(ledger), DutyCycle(LOOK_SHARE, LONGEST_PAUSE_SECONDS)
            while self._pages:
                begun = clock()
                with suppress(LedgerError, sqlite3.Error):  # the sensor's own loops report it
                    if await run_in_threadpool(changes.seen):
                        async with self._reading:
                            self._tell(await run_in_threadpool(self._look))
                    if (services := self._services()) != self._latest.services:
                        self._tell(replace(self._latest, services=services))
                await asyncio.sleep(max(POLL_SECONDS, duty.pause_after(clock() - begun)))
        finally:
            ledger.close()

    def _tell(self, look: Snapshot) -> None:
        changed = list(look.changes_since(self._latest))
        self._latest = look
        for queue in list(self._pages):
            if queue.qsize() + len(changed) >= QUEUED:
                self._pages.discard(queue)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
                continue
            for change in changed:
                queue.put_nowait(change)
