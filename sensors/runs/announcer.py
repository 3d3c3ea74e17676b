"""Announcing: each staged arrival is told to Prefect by an event, and the server confirms that it has it."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from sensors.arrivals import manifest
from sensors.config.inboxes import ARRIVAL_READY
from sensors.ledger import Ledger, announcements, arrivals
from sensors.ledger.announcements import Announcement
from sensors.ledger.arrivals import Arrival
from sensors.runs.api import ApiError, Event, NotReachedError, PrefectApi
from sensors.runtime.clock_part import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_arrival

logger = logging.getLogger(__name__)

EVENT = ARRIVAL_READY
"""The event of an inbox that has none of its own, or is configured no more."""
NO_ANSWER_PAUSE = timedelta(seconds=2)
"""How long to wait after the server did not confirm an event."""
NAMED_FILES = 100
"""How many names an event has: Prefect refuses one of more than 1.5 MB, and handles each several times."""
UNKNOWN_INBOX_LIMIT = 4
"""How many arrivals Prefect may have at once of an inbox that is configured no more."""


@dataclass(frozen=True)
class Announcer:
    """Announces the arrivals whose time has come, of each inbox no more at once than it may have in flight.

    Staging heeds that as well, but a replay, or a ledger that was rebuilt, may want thousands announced.
    """

    ledger: Ledger
    api: PrefectApi
    clock: Clock
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many that is, by the inbox's name."""
    events: Mapping[str, str] = field(default_factory=dict[str, str])
    """The event that announces arrivals, by the inbox's name."""

    def step(self) -> bool:
        """Announce the arrivals that are due; say whether there was one.

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
            # The automation runs once for each resource id, so it has to be the arrival's own.
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
            # The server may have it all the same, so its receipt is looked for from now on.
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
