"""Announce staged arrivals to Prefect, send it the notices for users, and name the runs of arrivals.

An announcement is an event for which an automation starts a run; a notice is an event that an automation turns into an
alert.
"""

import json
import logging
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue

from sensors.arrivals import manifest
from sensors.config.inboxes import ARRIVAL_READY
from sensors.ledger import Ledger, LedgerError, announcements, arrivals, notices
from sensors.ledger.announcements import Announcement
from sensors.ledger.arrivals import Arrival
from sensors.ledger.notices import StoredNotice
from sensors.runs.api import ApiError, Event, NotReachedError, PrefectApi
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_arrival, about_inbox

logger = logging.getLogger(__name__)

EVENT = ARRIVAL_READY
"""The event for an inbox that defines none, or is no longer configured."""
NO_ANSWER_PAUSE = timedelta(seconds=2)
"""Pause after the server did not confirm an event."""
NAMED_FILES = 100
"""How many file names an event has: Prefect rejects an event above 1.5 MB, and processes each several times."""
UNKNOWN_INBOX_LIMIT = 4
"""How many arrivals of an inbox that is no longer configured Prefect may have in flight."""


@dataclass(frozen=True)
class Announcer:
    """Announces the arrivals that are due, within each inbox's limit of arrivals in flight.

    Staging keeps to that limit as well, but a replay or a rebuilt ledger may make thousands due.
    """

    ledger: Ledger
    api: PrefectApi
    clock: Clock
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    """The limit of arrivals in flight, by inbox name."""
    events: Mapping[str, str] = field(default_factory=dict[str, str])
    """The event that announces arrivals, by inbox name."""

    def step(self) -> bool:
        """Announce the arrivals that are due; return whether any was announced.

        Raises NotReachedError while there is no server to announce to.
        """
        due = arrivals.to_announce(self.ledger, self.clock.utc())
        if not due:
            return False
        in_flight = arrivals.count_with_prefect(self.ledger)
        announced = False
        for arrival in due:
            if in_flight[arrival.inbox] < self.limits.get(arrival.inbox, UNKNOWN_INBOX_LIMIT):
                in_flight[arrival.inbox] += 1
                self.api.knock()
                self._announce(arrival)
                announced = True
        return announced

    def _announce(self, arrival: Arrival) -> None:
        now = self.clock.utc()
        announcement = Announcement(str(uuid.uuid4()), arrival.id, arrival.attempt + 1, now)
        names, size = arrivals.contents(self.ledger, arrival.id)
        event = Event(
            id=announcement.event_id,
            event=self.events.get(arrival.inbox, EVENT),
            occurred=now,
            # The automation runs once for each resource id, so the id has to be the arrival's own.
            resource={
                "prefect.resource.id": f"inbox.arrival.{arrival.id}",
                "prefect.resource.name": arrival.id,
                "inbox": arrival.inbox,
            },
            payload={
                "arrival_id": arrival.id,
                "inbox": arrival.inbox,
                "attempt": announcement.attempt,
                "source_url": arrival.folder.as_uri(),
                "files": names[:NAMED_FILES],
                "file_count": len(names),
                "bytes": size,
                "reload": list(arrival.reload) or None,
                "manifest": arrival.manifest,
                "rules": json.loads(arrival.rules) if arrival.rules else None,
            },
        )
        if not announcements.record_intent(self.ledger, announcement):
            return
        manifest.restore(self.ledger, arrival)
        kill_point("intended")
        about = about_arrival(arrival.id)
        try:
            self.api.emit([event])
        except NotReachedError:
            announcements.forget_intent(self.ledger, announcement)
            raise
        except ApiError as error:
            # The server may have it all the same, so its receipt is looked up from now on.
            logger.warning("arrival %s: the server did not take its event: %s", arrival.id, error, extra=about)
            announcements.record_unannounced(self.ledger, arrival.id, now + NO_ANSWER_PAUSE, str(error))
            return
        kill_point("emitted")
        announcements.record_confirmed(self.ledger, announcement.event_id, self.clock.utc())
        logger.info(
            "arrival %s: announced (attempt %d), %d files, %d bytes",
            arrival.id,
            announcement.attempt,
            len(names),
            size,
            extra=about,
        )


SENT_AT_ONCE = 50


@dataclass(frozen=True)
class NoticeSender:
    """Sends notices to Prefect; each keeps its event id, so that Prefect accepts it only once."""

    ledger: Ledger
    api: PrefectApi
    clock: Clock

    def step(self) -> bool:
        """Send the unsent notices; return whether there were any. Raises ApiError; the next step sends them again."""
        unsent = notices.unsent(self.ledger, SENT_AT_ONCE)
        if not unsent:
            return False
        self.api.emit([event_of(one) for one in unsent])
        notices.record_sent(self.ledger, [one.notice for one in unsent], self.clock.utc())
        for one in unsent:
            notice = one.notice
            arrival_id = notice.payload.get("arrival_id")
            about = about_arrival(arrival_id) if arrival_id else about_inbox(notice.inbox)
            logger.info("%s: %s", notice.event, notice.payload.get("subject", notice.key), extra=about)
        return True


def event_of(stored: StoredNotice) -> Event:
    """Return the event for a notice."""
    notice = stored.notice
    return Event(
        id=notice.event_id,
        event=notice.event,
        occurred=stored.created_at,
        # An id for each notice: an automation that counts by resource would swallow the second one of an inbox.
        resource={"prefect.resource.id": f"inbox.notice.{notice.event_id}", "prefect.resource.name": notice.inbox},
        related=[{"prefect.resource.id": f"inbox.{notice.inbox}", "prefect.resource.role": "inbox"}],
        payload={"inbox": notice.inbox, **notice.payload},
    )


AFTER = 0.3
"""Seconds after the receipt: by then the run has started, and the server has time for this."""
IDLE = 60.0
AT_ONCE = 20
"""Runs per request."""
_NAME_LIMIT = 80


@dataclass(frozen=True)
class StartedRun:
    """A run that has started for an arrival; `due` is when to name it, in seconds of the monotonic clock."""

    arrival_id: str
    run_id: str
    due: float


@dataclass
class RunNamer:
    """Names runs after the files of their arrival, such as `orders.csv +12 @ metrics`, and tags them.

    Prefect's automation can set neither. The name is a convenience: nothing waits for it, and nothing depends on it.
    `notice` may be called from any thread.
    """

    ledger: Ledger
    api: PrefectApi
    clock: Clock
    _noticed: SimpleQueue[StartedRun] = field(default_factory=SimpleQueue[StartedRun], init=False)
    _waiting: list[StartedRun] = field(default_factory=list[StartedRun], init=False)

    def notice(self, arrival_id: str, run_id: str) -> None:
        """Note that a run has started."""
        self._noticed.put(StartedRun(arrival_id, run_id, self.clock.monotonic() + AFTER))

    def step(self) -> float:
        """Name the runs that are due; return the seconds until the next one is due, or a long pause.

        A run that cannot be named keeps its name, and is not tried again.
        """
        while not self._noticed.empty():
            self._waiting.append(self._noticed.get())
        now = self.clock.monotonic()
        due = [one for one in self._waiting if now >= one.due][:AT_ONCE]
        self._waiting = [one for one in self._waiting if one not in due]
        try:
            self._name(due)
        except (ApiError, LedgerError, sqlite3.Error) as error:
            logger.info("%d runs keep the names that Prefect gave them: %s", len(due), error)
        return max(0.0, self._waiting[0].due - now) if self._waiting else IDLE

    def _name(self, started: Sequence[StartedRun]) -> None:
        runs = self.api.runs([one.run_id for one in started]) if started else {}
        for one in started:
            arrival, run = arrivals.get(self.ledger, one.arrival_id), runs.get(one.run_id)
            if arrival is None or run is None:
                continue
            name = run_name(arrivals.contents(self.ledger, arrival.id)[0], arrival.inbox)
            tags = dict.fromkeys([*run.tags, f"inbox:{arrival.inbox}", f"arrival:{arrival.id}"])
            self.api.name_run(run.id, name, [*tags])
            announcements.record_run_name(self.ledger, run.id, name)


def run_name(files: Sequence[str], inbox: str) -> str:
    """Return the name for a run that was started for these files.

    >>> run_name(["orders.csv", "prices.csv", "stock.csv"], "metrics")
    'orders.csv +2 @ metrics'
    """
    first = " ".join((files[0] if files else "no files").split())
    cut = first if len(first) <= _NAME_LIMIT else f"{first[: _NAME_LIMIT - 1]}…"
    more = f" +{len(files) - 1:,}" if len(files) > 1 else ""
    return f"{cut}{more} @ {inbox}"
