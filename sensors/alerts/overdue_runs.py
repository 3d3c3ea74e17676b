"""Waiting runs: what has held runs for five minutes is reported, once for each such thing, and when it is over."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from automations.alert_service import Happening, Resource
from sensors.alerts.failed_runs import RunState, happening_of
from sensors.alerts.reconcile import GRACE, MissedAlerts
from sensors.alerts.run_deadlines import AFTER_OUTAGE, watching_since
from sensors.runs.api import Event, PrefectApi
from sensors.runs.facts import Found, RunFacts
from sensors.runs.issues import is_of_an_arrival
from sensors.runs.waiting import Hold, hold_of
from sensors.runtime.clock_part import Clock

logger = logging.getLogger(__name__)

WAITING = "run.waiting"
RELEASED = "run.released"
AFTER = timedelta(minutes=5)
TROUBLE = "run.hold."
"""What the names begin with under which the outbox knows what holds runs."""


@dataclass(frozen=True)
class Held:
    """A run and what holds it."""

    run: Found
    hold: Hold


@dataclass
class WaitingRuns:
    """Looks at the runs that should be at work and are not."""

    api: PrefectApi
    missed: MissedAlerts
    clock: Clock = field(default_factory=Clock)
    after: timedelta = AFTER
    _begun_at: datetime | None = None
    _reported: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """What was reported to hold runs, by its key, and when."""
    _unproved: dict[str, tuple[Happening, datetime]] = field(default_factory=dict[str, tuple[Happening, datetime]])
    """The events that were sent lately, by their ids, and when."""

    def step(self, facts: RunFacts, ours: frozenset[str], now: datetime) -> None:
        """Report what holds runs of the deployments with these ids. Raises ApiError."""
        self._begun_at = self._begun_at or now
        back_at = watching_since(self._begun_at, self.api, self.clock)
        held = self._held(facts, ours)
        for key, some in held.items():
            first = min(some, key=lambda one: one.hold.since)
            if now - first.hold.since >= self.after and now - back_at >= AFTER_OUTAGE and not self._is_known(key):
                self._emit(_waiting(key, some, first, facts, now), now)
                self._reported[key] = now
        self._report_released(set(held), now)
        for identity, (happening, at) in list(self._unproved.items()):
            if now - at > GRACE:
                self.missed.ring(RunState({}, happening), now)
                del self._unproved[identity]

    def give_up(self, facts: RunFacts, ours: frozenset[str]) -> None:
        """Have the runs of arrivals be Crashed that can never start, so that these are announced again."""
        for run in facts.runs:
            if run.get("deployment_id") in ours and is_of_an_arrival(run):
                hold = hold_of(run, facts)
                if hold is not None and hold.is_final:
                    logger.warning("run %s can never start: %s", run["name"], hold.reason)
                    self.api.crash(run["id"], hold.reason)

    def _held(self, facts: RunFacts, ours: frozenset[str]) -> dict[str, list[Held]]:
        found: dict[str, list[Held]] = {}
        for run in facts.runs:
            if run.get("deployment_id") not in ours or (hold := hold_of(run, facts)) is None:
                continue
            if not self._has_its_own_alert(run, facts):
                found.setdefault(hold.key, []).append(Held(run, hold))
        return found

    def _has_its_own_alert(self, run: Found, facts: RunFacts) -> bool:
        """Return whether an automation reports that this very run has not started."""
        if run.get("run_count") or run["state_type"] not in {"SCHEDULED", "PENDING"}:
            return False
        happening = happening_of(run, facts.flow_of(run), facts.deployment_of(run))
        late = [one for one in self.missed.automations if one.waits and one.is_about(happening)]
        return any("prefect.flow-run.Late" in (one.trigger.get("after") or ()) for one in late)

    def _is_known(self, key: str) -> bool:
        ringer = self.missed.ringer
        if key in self._reported or ringer.trouble_since(f"{TROUBLE}{key}") is not None:
            return True
        pool, _, what = key.partition("/")
        return what == "worker" and ringer.trouble_since(f"prefect.work-pool.{pool}") is not None

    def _report_released(self, held: set[str], now: datetime) -> None:
        known = {*self._reported, *(one.removeprefix(TROUBLE) for one in self.missed.ringer.open_troubles(TROUBLE))}
        for key in known - held:
            reported_at = self._reported.pop(key, None)
            since = self.missed.ringer.trouble_since(f"{TROUBLE}{key}") or reported_at
            identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{RELEASED}/{key}/{since}"))
            if identity not in self._unproved:
                payload = {"trouble": f"{TROUBLE}{key}"}
                self._emit(Happening(identity, RELEASED, now, _resource(key), payload=payload), now)

    def _emit(self, happening: Happening, now: datetime) -> None:
        resource, related = dict(happening.resource), [dict(one) for one in happening.related]
        payload = dict(happening.payload)
        self.api.emit([Event(happening.id, happening.event, happening.occurred, resource, related, payload)])
        self._unproved[happening.id] = (happening, now)


def _waiting(key: str, held: Sequence[Held], first: Held, facts: RunFacts, now: datetime) -> Happening:
    run, hold = first.run, first.hold
    return Happening(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{WAITING}/{key}/{hold.since.isoformat()}")),
        event=WAITING,
        occurred=now,
        resource=_resource(key),
        related=happening_of(run, facts.flow_of(run), facts.deployment_of(run)).related,
        payload={
            "trouble": f"{TROUBLE}{key}",
            "run": run["name"],
            "deployment": facts.full_name(facts.deployment_of(run)),
            "runs": len(held),
            "since": f"{hold.since.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            "reason": hold.reason,
            "mend": hold.mend,
        },
    )


def _resource(key: str) -> Resource:
    return Resource({"prefect.resource.id": f"{TROUBLE}{key}", "prefect.resource.name": key})
