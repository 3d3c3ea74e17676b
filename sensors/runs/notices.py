"""Notices: what a person is to be told goes to Prefect as an event, and an automation makes an alert of it."""

import logging
from dataclasses import dataclass

from sensors.ledger import Ledger
from sensors.ledger import notices as ledger_notices
from sensors.ledger.notices import StoredNotice
from sensors.runs.api import Event, PrefectApi
from sensors.runtime.clock_part import Clock
from sensors.runtime.json_logging import about_arrival, about_inbox

logger = logging.getLogger(__name__)

SENT_AT_ONCE = 50


@dataclass(frozen=True)
class Messenger:
    """Hands the notices over to Prefect; each keeps its event id, which Prefect takes once."""

    ledger: Ledger
    api: PrefectApi
    clock: Clock

    def step(self) -> bool:
        """Send what has not been sent; say whether there was anything. Raises ApiError, and sends it again then."""
        unsent = ledger_notices.unsent(self.ledger, SENT_AT_ONCE)
        if not unsent:
            return False
        self.api.emit([event_of(one) for one in unsent])
        ledger_notices.record_sent(self.ledger, [one.notice for one in unsent], self.clock.utc())
        for one in unsent:
            notice = one.notice
            arrival_id = notice.payload.get("arrival_id")
            about = about_arrival(arrival_id) if arrival_id else about_inbox(notice.inbox)
            logger.info("%s: %s", notice.event, notice.payload.get("subject", notice.key), extra=about)
        return True


def event_of(stored: StoredNotice) -> Event:
    """Return the event that tells Prefect of a notice."""
    notice = stored.notice
    return Event(
        id=notice.event_id,
        event=notice.event,
        occurred=stored.created_at,
        # Of its own for each: an automation that counts by resource would swallow the second of one inbox.
        resource={"prefect.resource.id": f"inbox.notice.{notice.event_id}", "prefect.resource.name": notice.inbox},
        related=[{"prefect.resource.id": f"inbox.{notice.inbox}", "prefect.resource.role": "inbox"}],
        payload={"inbox": notice.inbox, **notice.payload},
    )
