"""Missed alerts: what should have led to one is compared with the outbox, and the bell is rung for what is not there.

Prefect's server keeps its events in memory on their way to the automations. When it is killed it forgets them, but the
run has failed all the same, and the sensor has what it wanted to tell.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import Happening, Posted, Resource, Ringer, SendingAutomation
from sensors.alerts.failed_runs import RunState, read_failed_runs
from sensors.alerts.rhythm import Rhythm
from sensors.ledger import Ledger, arrivals, notices
from sensors.ledger.notices import StoredNotice
from sensors.ledger.states import ArrivalState
from sensors.runs.api import Event, PrefectApi
from sensors.runs.issues import is_of_an_arrival
from sensors.runs.notices import event_of
from sensors.runs.outcomes import ARRIVAL_FAILED, failed_payload

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=5)
GRACE = timedelta(seconds=15)
"""How long Prefect has for the alert of a failure: usually half a second."""
OVERLAP = timedelta(minutes=10)
"""How far is looked back beyond the last look: a state may bear the time of a machine whose clock is behind."""
UNSENT_FOR = timedelta(minutes=1)
"""How long a notice waits for the server before the bell is rung for it directly."""
UNSENT_AT_ONCE = 50
_PROGRESS = "failed runs"


@dataclass
class MissedAlerts:
    """Rings for what Prefect has missed."""

    api: PrefectApi
    ringer: Ringer
    ledger: Ledger
    page: str
    """The address of Prefect's page, for links."""
    automations: list[SendingAutomation] = field(default_factory=list[SendingAutomation])
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(EVERY))

    def step(self, now: datetime) -> bool:
        """Look through what has failed lately, if it is time; say whether the bell was rung. Raises ApiError."""
        if not self._rhythm.is_due(now):
            return False
        self._rhythm.record_done(now)
        begin = min(self.ringer.progress(_PROGRESS) or now, now)  # what was before the first start concerns nobody
        failed = read_failed_runs(self.api, begin - OVERLAP) if self.automations else []
        rung = [self._ring_for_run(one, now) for one in failed if self._had_its_time(one.happening, begin, now)]
        told = notices.sent_since(self.ledger, begin - OVERLAP)
        rung.append(self._ring_for([one for one in told if one.sent_at and one.sent_at < now - GRACE], now))
        self.ringer.record_progress(_PROGRESS, now)
        return any(rung)

    def ring_unsent(self, now: datetime) -> None:
        """Ring for the notices that the server does not take."""
        unsent = notices.unsent(self.ledger, UNSENT_AT_ONCE)
        self._ring_for([one for one in unsent if one.created_at < now - UNSENT_FOR], now)

    def _had_its_time(self, happening: Happening, begin: datetime, now: datetime) -> bool:
        return begin - OVERLAP < happening.occurred < now - GRACE

    def _ring_for_run(self, failed: RunState, now: datetime) -> bool:
        """Ring for a failed run; if no automation is about it, for the arrival that has failed with it."""
        if any(one.concerns(failed.happening) for one in self.automations) or not is_of_an_arrival(failed.run):
            return self.ring(failed, now)
        state: Mapping[str, Any] = failed.run["state"]
        arrival = arrivals.get(self.ledger, str(failed.run["parameters"]["arrival_id"]))
        has_failed = arrival is not None and arrival.state is ArrivalState.FAILED
        if arrival is None or not has_failed or arrival.run_id != failed.run["id"] or state["type"] == "CANCELLED":
            return False
        reason = f"{state['name']}: {state.get('message') or 'no message'}"
        resource = {"prefect.resource.id": f"inbox.notice.{state['id']}", "prefect.resource.name": arrival.inbox}
        payload = failed_payload(arrival.id, arrival.inbox, reason)
        happening = replace(
            failed.happening, event=ARRIVAL_FAILED, resource=Resource(resource), payload=payload, related=()
        )
        return self.ring(RunState({}, happening), now)

    def _ring_for(self, stored: Iterable[StoredNotice], now: datetime) -> bool:
        rung = [self.ring(RunState({}, _happening(event_of(one))), now) for one in stored]
        return any(rung)

    def ring(self, failed: RunState, now: datetime) -> bool:
        """Ring for an event, unless its alert is there; say whether the bell was rung."""
        rung = [
            self.ring_for(automation, failed, now)
            for automation in self.automations
            if automation.concerns(failed.happening)
        ]
        return any(rung)

    def ring_for(self, automation: SendingAutomation, state: RunState, now: datetime) -> bool:
        """Ring with one automation's alert for an event, unless it is there; say whether the bell was rung."""
        happening = state.happening
        if self.ringer.knows(automation.cause(happening)):
            return False
        posting = automation.posting(happening, state.run or None, self.page)
        # Of an automation that says nothing to the bell it is not known whether its alert has come.
        if posting.cause.is_its_own or posting.cause.void or self.ringer.knows(posting.cause.id):
            return False
        if self.ringer.post(posting, now) is Posted.KNOWN:
            return False
        logger.warning("%s: no alert came of it; the bell is rung: %s", happening.event, posting.alert.subject)
        return True


def _happening(event: Event) -> Happening:
    related = [Resource(one) for one in event.related]
    return Happening(event.id, event.event, event.occurred, Resource(event.resource), related, event.payload)
