"""Find the flow run that each announcement led to, and have arrivals without one announced again.

The receipt of an announcement is Prefect's event that the automation's action has started a run for it.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sensors.arrivals.failed_links import FailedFolder
from sensors.ledger import Ledger, announcements, arrivals
from sensors.ledger.announcements import Announcement, Receipt
from sensors.ledger.arrivals import Arrival
from sensors.ledger.notices import Notice
from sensors.ledger.states import ArrivalState
from sensors.runs.api import EVENTS_PAGE, RUN_RESOURCE, Event, PrefectApi
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_arrival

logger = logging.getLogger(__name__)

EXECUTED = "prefect.automation.action.executed"
FAILED = "prefect.automation.action.failed"
RUN_DEPLOYMENT = "run-deployment"
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=10)
FAILED_PAUSE = timedelta(seconds=4)
FAILED_LIMIT = 5
"""How often the action that starts the run may fail, with pauses that double, before the arrival fails."""
STALLED_ATTEMPTS = 4
"""After this many announcements without a receipt a notice is sent; announcing goes on."""
STALLED = "inbox.arrival.stalled"
CLOCKS_APART = timedelta(minutes=1)
"""How long before the announcement the search for its events begins: the server's clock may differ."""
ASKED_AT_ONCE = EVENTS_PAGE // 4
"""Announcements per request: each may have several events, and they should fit on one page."""
EVENT_RESOURCE = "prefect.event."


def _nobody(arrival_id: str, run_id: str) -> None:
    """Ignore a run that has started."""


def patience(unanswered: int) -> timedelta:
    """Return how long to wait for the receipt of the n-th announcement in a row: twice as long each time, capped."""
    return min(FIRST_WAIT * 2 ** max(0, unanswered - 1), LONGEST_WAIT)


@dataclass(frozen=True)
class ReceiptFinder:
    """Looks up receipts, and has arrivals without one announced again."""

    ledger: Ledger
    api: PrefectApi
    failed: FailedFolder
    clock: Clock
    started: Callable[[str, str], None] = _nobody
    """Called for each arrival that has got a run, with the arrival's id and the run's."""

    def step(self) -> bool:
        """Look up every missing receipt; return whether any came in. Raises ApiError."""
        open_announcements = announcements.awaiting_receipt(self.ledger)
        found = self._look_up(open_announcements) if open_announcements else 0
        self._announce_again()
        return found > 0

    def _look_up(self, open_announcements: Sequence[Announcement]) -> int:
        found = 0
        for start in range(0, len(open_announcements), ASKED_AT_ONCE):
            asked = {one.event_id: one for one in open_announcements[start : start + ASKED_AT_ONCE]}
            events = self.api.events_related_to(
                [EXECUTED, FAILED],
                [f"{EVENT_RESOURCE}{event_id}" for event_id in asked],
                since=min(one.intended_at for one in asked.values()) - CLOCKS_APART,
            )
            found += sum(self._take(event, asked) for event in events)
        return found

    def _take(self, event: Event, asked: dict[str, Announcement]) -> bool:
        announcement = asked.get(announced_event(event))
        if announcement is None:
            return False
        if event.payload.get("action_type") != RUN_DEPLOYMENT:
            return False  # from another automation that reacts to arrivals; its result does not matter here
        about = about_arrival(announcement.arrival_id)
        if event.event == FAILED:
            reason = str(event.payload.get("reason", "the automation's action failed"))
            logger.warning("arrival %s: no run was started: %s", announcement.arrival_id, reason, extra=about)
            self._take_failure(announcement, reason)
            return False
        receipt = receipt_in(event, announcement.event_id)
        if receipt is None or not announcements.record_receipt(self.ledger, receipt, self.clock.utc()):
            return False
        kill_point("receipt")
        logger.info("arrival %s: run %s (%s)", announcement.arrival_id, receipt.run_name, receipt.run_id, extra=about)
        self.started(announcement.arrival_id, receipt.run_id)
        return True

    def _take_failure(self, announcement: Announcement, reason: str) -> None:
        """Have the arrival announced again after a pause, or record it as failed, with the reason."""
        now = self.clock.utc()
        arrival = arrivals.get(self.ledger, announcement.arrival_id)
        announcements.record_failure(self.ledger, announcement.event_id, reason)
        if arrival is None or announcement.attempt != arrival.attempt:
            return  # it was announced again meanwhile
        failures = announcements.count_failures(self.ledger, arrival.id)
        if failures < FAILED_LIMIT:
            pause = FAILED_PAUSE * 2 ** max(0, failures - 1)
            announcements.record_unannounced(self.ledger, arrival.id, now + pause, f"no run was started: {reason}")
            return
        cause = f"no run was started, {failures} times: {reason}"
        notice = stalled_notice(arrival, cause, f"put it right, then `just retry {arrival.id}`")
        if announcements.record_outcome(self.ledger, arrival.id, ArrivalState.FAILED, (), cause, now, [notice]):
            self.failed.refresh(arrival.id)

    def _announce_again(self) -> None:
        now = self.clock.utc()
        for arrival in arrivals.in_state(self.ledger, ArrivalState.ANNOUNCED):
            if is_overdue(arrival, now, self.clock.not_before_resumed):
                waited = patience(arrival.unanswered)
                cause = f"no run {waited.seconds} s after announcement {arrival.attempt}"
                is_stalled = arrival.unanswered == STALLED_ATTEMPTS
                notice = stalled_notice(arrival, cause, "it is announced again; see `just status`")
                announcements.record_unannounced(self.ledger, arrival.id, now, cause, notice if is_stalled else None)
                logger.warning(
                    "arrival %s: no receipt after %d s, announcing again",
                    arrival.id,
                    waited.seconds,
                    extra=about_arrival(arrival.id),
                )


def stalled_notice(arrival: Arrival, reason: str, what_next: str) -> Notice:
    """Return the notice about an arrival that gets no run; its key allows one for each try."""
    return Notice(
        key=f"stalled/{arrival.id}/{arrival.given_up}",
        event=STALLED,
        inbox=arrival.inbox,
        payload={
            "arrival_id": arrival.id,
            "attempt": arrival.attempt,
            "reason": reason,
            "subject": f"Arrival {arrival.id} has no run",
            "text": f"Inbox: {arrival.inbox}\nArrival: {arrival.id}\nReason: {reason}\nNext: {what_next}",
        },
    )


def _as_it_is(moment: datetime) -> datetime:
    return moment


def is_overdue(arrival: Arrival, now: datetime, counted_from: Callable[[datetime], datetime] = _as_it_is) -> bool:
    """Return whether an announced arrival has waited long enough for its receipt.

    `counted_from` moves the start of the wait past a suspension of this process. If the announcement is in the future,
    the clock was set back since: the length of the wait is unknown, and the arrival counts as overdue.
    """
    if arrival.announced_at is None:
        return False
    return not -CLOCKS_APART <= now - counted_from(arrival.announced_at) < patience(arrival.unanswered)


def announced_event(event: Event) -> str:
    """Return the id of the event that triggered an automation's action, or an empty string."""
    for resource in event.related:
        if resource.get("prefect.resource.role") == "triggering-event":
            return resource.get("prefect.resource.id", "").removeprefix(EVENT_RESOURCE)
    return ""


def receipt_in(event: Event, event_id: str) -> Receipt | None:
    """Return the receipt that an executed action gives for an announcement, or None if it started no run."""
    for resource in event.related:
        if resource.get("prefect.resource.role") == "flow-run":
            run_id = resource.get("prefect.resource.id", "").removeprefix(RUN_RESOURCE)
            return Receipt(event_id, run_id, resource.get("prefect.resource.name", ""))
    return None
