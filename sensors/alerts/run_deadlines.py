"""Run deadlines: what an automation waits for in vain is found by the states of the runs as well.

An automation such as alert-on-late-run fires when a Late run does not start in time. Prefect holds the events that it
needs back for up to 15 minutes if the run was planned less than five minutes ahead: the scheduler emits no Scheduled
event, and the next one waits for it. The automation still says which runs are meant and how long they have; a look at
the server says the rest.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import Happening, SendingAutomation
from sensors.alerts.failed_runs import RunState, happening_of
from sensors.alerts.reconcile import GRACE, MissedAlerts
from sensors.runs.api import PrefectApi
from sensors.runs.facts import Found, RunFacts
from sensors.runs.waiting import waits_since
from sensors.runtime.clock_part import Clock

LATE_AFTER = timedelta(seconds=15)
"""How long after its time Prefect calls a run Late (PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS)."""
AFTER_OUTAGE = timedelta(seconds=30)
"""How long runs have to start once the server, or this sensor, is back."""
_UNSTARTED = ("SCHEDULED", "PENDING")


@dataclass
class RunDeadlines:
    """Rings for runs that have not reached a state in time, once for each run and automation."""

    api: PrefectApi
    missed: MissedAlerts
    clock: Clock = field(default_factory=Clock)
    _begun_at: datetime | None = None
    _histories: dict[str, tuple[str, list[Happening]]] = field(default_factory=dict[str, tuple[str, list[Happening]]])
    """The events of each run that is at work, and the state up to which they go."""
    _rung: set[tuple[str, int, str]] = field(default_factory=set[tuple[str, int, str]])
    """For which attempts of runs, and by which automations, the bell was rung."""

    def step(self, facts: RunFacts, now: datetime) -> None:
        """Ring for every run that is past a deadline. Raises ApiError."""
        self._begun_at = self._begun_at or now
        automations = [one for one in self.missed.automations if one.waits]
        self._histories = {run["id"]: self._histories[run["id"]] for run in facts.runs if run["id"] in self._histories}
        for run in facts.runs if automations else ():
            current = happening_of(run, facts.flow_of(run), facts.deployment_of(run))
            for automation in automations:
                if automation.is_about(current):
                    self._judge(automation, run, facts, now)

    def _judge(self, automation: SendingAutomation, run: Found, facts: RunFacts, now: datetime) -> None:
        awaited = automation.awaited(self._history(run, facts))
        if awaited is None:
            return
        back_at = watching_since(self._begun_at, self.api, self.clock)
        if now - max(awaited.until, back_at + AFTER_OUTAGE) > GRACE:
            # Prefect may call it Late only after the bell was rung, and that is another event.
            attempt = (run["id"], run.get("run_count") or 0, automation.name)
            if attempt not in self._rung and self.missed.ring_for(automation, RunState(run, awaited.begun), now):
                self._rung.add(attempt)

    def _history(self, run: Found, facts: RunFacts) -> list[Happening]:
        """Return the events that Prefect emits of a run, the oldest first."""
        flow, deployment = facts.flow_of(run), facts.deployment_of(run)
        if run["state_type"] in _UNSTARTED and not run.get("run_count"):
            return [happening_of({**run, "state": _late(run)}, flow, deployment)]
        known = self._histories.get(run["id"])
        if known is None or known[0] != run["state"]["id"]:
            states: list[Mapping[str, Any]] = self.api.get(f"/flow_run_states/?flow_run_id={run['id']}")
            history: list[Happening] = []
            attempts = 0
            for state in sorted(states, key=lambda one: datetime.fromisoformat(one["timestamp"])):
                attempts += state["type"] == "RUNNING"
                history.append(happening_of({**run, "state": state, "run_count": attempts}, flow, deployment))
            known = self._histories[run["id"]] = (run["state"]["id"], history)
        return known[1]


def watching_since(begun_at: datetime | None, api: PrefectApi, clock: Clock) -> datetime:
    """Return since when this sensor and the server have been there together without a pause."""
    return clock.not_before_resumed(max(filter(None, (begun_at, api.unreached_at)), default=clock.utc()))


def _late(run: Found) -> dict[str, Any]:
    """Return the state of a run that has not started, as Prefect writes it 15 s after its time, late itself or not."""
    state: Mapping[str, Any] = run["state"]
    due = waits_since(run) if run["state_type"] == "SCHEDULED" else datetime.fromisoformat(run["expected_start_time"])
    identity = state["id"] if state["name"] == "Late" else str(uuid.uuid5(uuid.NAMESPACE_OID, f"late/{state['id']}"))
    at = (due + LATE_AFTER).isoformat()
    return {**state, "id": identity, "name": "Late", "type": "SCHEDULED", "timestamp": at}
