"""Compare failed runs and sent notices with the outbox, and post the alerts that Prefect has missed.

Prefect's server keeps its events in memory on their way to the automations. When it is killed it forgets them, but the
run has failed all the same, and the sensor still has the notices that it sent. Each failed run is made into the event
that Prefect emits for it, so that its alert is the same either way.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import AlertService, EnqueueResult, PrefectEvent, Resource, SendingAutomation
from sensors.alerts.heartbeat import Interval
from sensors.ledger import Ledger, arrivals, notices
from sensors.ledger.notices import StoredNotice
from sensors.ledger.states import ArrivalState
from sensors.runs.announcer import event_of
from sensors.runs.api import Event, PrefectApi
from sensors.runs.issues import is_of_an_arrival
from sensors.runs.outcomes import ARRIVAL_FAILED, failed_payload

FAILED_STATES = ("FAILED", "CRASHED", "CANCELLED")
MESSAGE_LIMIT = 100_000
"""Length at which Prefect cuts a state's message in its event."""
_CREATORS = {"DEPLOYMENT": "deployment", "AUTOMATION": "automation"}


@dataclass(frozen=True)
class RunState:
    """A run as the API returns it, and the event of the run's current state."""

    run: Mapping[str, Any]
    happening: PrefectEvent


def read_failed_runs(api: PrefectApi, since: datetime) -> list[RunState]:
    """Return the runs that have failed since a time and were not started again. Raises ApiError."""
    wanted = {"state": {"type": {"any_": FAILED_STATES}}, "end_time": {"after_": since.isoformat()}}
    return read_runs(api, wanted)


def read_runs(api: PrefectApi, wanted: Mapping[str, Any]) -> list[RunState]:
    """Return the runs that match a Prefect filter, each with the event of its state. Raises ApiError."""
    runs = list(api.results("/flow_runs/filter", {"flow_runs": wanted, "sort": "ID_DESC"}))
    flows = api.by_ids("flows", [run["flow_id"] for run in runs])
    deployments = api.by_ids("deployments", [run["deployment_id"] for run in runs if run.get("deployment_id")])
    return [
        RunState(run, happening_of(run, flows.get(run["flow_id"]), deployments.get(run.get("deployment_id") or "")))
        for run in runs
        if run.get("state")
    ]


def happening_of(
    run: Mapping[str, Any], flow: Mapping[str, Any] | None, deployment: Mapping[str, Any] | None
) -> PrefectEvent:
    """Return the event of a run's state, as `prefect.server.models.events.flow_run_state_change_event` makes it.

    The event has the state's id, so that its alert is the same whether Prefect or the sensor posts it.
    """
    state: Mapping[str, Any] = run["state"]
    related = [
        _related(kind, one["id"], one["name"]) for kind, one in (("flow", flow), ("deployment", deployment)) if one
    ]
    related += [
        _related(kind, run[f"{label}_id"], run[f"{label}_name"])
        for kind, label in (("work-queue", "work_queue"), ("work-pool", "work_pool"))
        if run.get(f"{label}_id") and run.get(f"{label}_name")
    ]
    tags: set[str] = set()
    for one in (run, flow, deployment):
        tags |= {*((one or {}).get("tags") or ())}
    related += [
        Resource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}) for tag in sorted(tags)
    ]
    related += _creator(run.get("created_by") or {})
    occurred = datetime.fromisoformat(state["timestamp"])
    return PrefectEvent(
        id=state["id"],
        event=f"prefect.flow-run.{state['name']}",
        occurred=occurred,
        resource=Resource(
            {
                "prefect.resource.id": f"prefect.flow-run.{run['id']}",
                "prefect.resource.name": run["name"],
                "prefect.run-count": str(run.get("run_count") or 0),
                "prefect.state-message": (state.get("message") or "")[:MESSAGE_LIMIT],
                "prefect.state-name": state["name"],
                "prefect.state-timestamp": occurred.isoformat(),
                "prefect.state-type": state["type"],
            }
        ),
        related=related,
    )


def _creator(created_by: Mapping[str, Any]) -> list[Resource]:
    kind = _CREATORS.get(str(created_by.get("type")))
    if kind is None:
        return []
    creator = {"prefect.resource.id": f"prefect.{kind}.{created_by['id']}", "prefect.resource.role": "creator"}
    if created_by.get("display_value"):
        creator["prefect.resource.name"] = created_by["display_value"]
    return [Resource(creator)]


def _related(kind: str, identity: str, name: str) -> Resource:
    return Resource(
        {
            "prefect.resource.id": f"prefect.{kind}.{identity}",
            "prefect.resource.role": kind,
            "prefect.resource.name": name,
        }
    )


logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=5)
GRACE = timedelta(seconds=15)
"""How long Prefect has to post the alert of a failure; usually it takes half a second."""
OVERLAP = timedelta(minutes=10)
"""How far to look back beyond the last check: a state's time may be from a machine whose clock is behind."""
UNSENT_FOR = timedelta(minutes=1)
"""How long a notice waits for the server before its alert is posted directly."""
UNSENT_AT_ONCE = 50
_PROGRESS = "failed runs"


@dataclass
class MissedAlerts:
    """Posts the alerts that Prefect has missed."""

    api: PrefectApi
    ringer: AlertService
    ledger: Ledger
    page: str
    """Address of Prefect's UI, for links."""
    automations: list[SendingAutomation] = field(default_factory=list[SendingAutomation])
    _rhythm: Interval = field(default_factory=lambda: Interval(EVERY))

    def step(self, now: datetime) -> bool:
        """Check the latest failures, if it is time; return whether an alert was posted. Raises ApiError."""
        if not self._rhythm.is_due(now):
            return False
        self._rhythm.record_done(now)
        begin = min(self.ringer.progress(_PROGRESS) or now, now)  # failures before the first start are ignored
        failed = read_failed_runs(self.api, begin - OVERLAP) if self.automations else []
        rung = [self._ring_for_run(one, now) for one in failed if self._had_its_time(one.happening, begin, now)]
        sent = notices.sent_since(self.ledger, begin - OVERLAP)
        rung.append(self._ring_for([one for one in sent if one.sent_at and one.sent_at < now - GRACE], now))
        self.ringer.record_progress(_PROGRESS, now)
        return any(rung)

    def ring_unsent(self, now: datetime) -> None:
        """Post the alerts of notices that the server does not accept."""
        unsent = notices.unsent(self.ledger, UNSENT_AT_ONCE)
        self._ring_for([one for one in unsent if one.created_at < now - UNSENT_FOR], now)

    def _had_its_time(self, happening: PrefectEvent, begin: datetime, now: datetime) -> bool:
        return begin - OVERLAP < happening.occurred < now - GRACE

    def _ring_for_run(self, failed: RunState, now: datetime) -> bool:
        """Post the alert of a failed run; if no automation is about it, that of the arrival that failed with it."""
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
        """Post the alerts for an event that are missing; return whether any was."""
        rung = [
            self.ring_for(automation, failed, now)
            for automation in self.automations
            if automation.concerns(failed.happening)
        ]
        return any(rung)

    def ring_for(self, automation: SendingAutomation, state: RunState, now: datetime) -> bool:
        """Post one automation's alert for an event if it is missing; return whether it was."""
        happening = state.happening
        if self.ringer.knows(automation.cause(happening)):
            return False
        posting = automation.posting(happening, state.run or None, self.page)
        # If an automation gives the outbox no cause, it is unknown whether its alert was sent.
        if posting.cause.is_its_own or posting.cause.void or self.ringer.knows(posting.cause.id):
            return False
        if self.ringer.post(posting, now) is EnqueueResult.KNOWN:
            return False
        logger.warning("%s: the server sent no alert; the sensor sends it: %s", happening.event, posting.alert.subject)
        return True


def _happening(event: Event) -> PrefectEvent:
    related = [Resource(one) for one in event.related]
    return PrefectEvent(event.id, event.event, event.occurred, Resource(event.resource), related, event.payload)
