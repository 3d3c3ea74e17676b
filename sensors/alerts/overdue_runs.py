"""Report runs that are lost, late or waiting, by their states on the server.

Prefect's automations alone cannot do this:

- An automation could wait for the next heartbeat of each run. But then it writes to its database several times for each
  run, and on SQLite that has locked out everything else for a minute (measured).
- An automation such as alert-on-late-run fires when a Late run does not start in time. Prefect holds the events that it
  needs back for up to 15 minutes if the run was planned less than five minutes ahead: the scheduler emits no Scheduled
  event, and the next event waits for it. The automation still defines which runs are meant and how long they have; the
  sensor reads the rest from the server.

A cause that has held runs for five minutes is reported once, and its end once.
"""

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import PrefectEvent, Resource, SendingAutomation
from sensors.alerts.heartbeat import Interval
from sensors.alerts.reconcile import GRACE, MissedAlerts, RunState, happening_of, read_runs
from sensors.runs.api import Event, PrefectApi
from sensors.runs.facts import HEARTBEAT, Found, LostRuns, RunFacts, RunHold, hold_of, parts, waits_since
from sensors.runs.issues import MISSING, is_of_an_arrival
from sensors.runs.schedules import in_words, times
from sensors.runtime.clock import Clock
from sensors.runtime.text import local_minute, local_time

LOST = "run.stuck"
"""The event of a lost run; automations of users may name it."""
EVERY = timedelta(seconds=10)


@dataclass
class LostRunAlerts:
    """Reports lost runs of all deployments."""

    api: PrefectApi
    missed: MissedAlerts
    limit: timedelta
    """How long a run may send no heartbeat; heartbeats come every 30 s."""
    clock: Clock = field(default_factory=Clock)
    _rhythm: Interval = field(default_factory=lambda: Interval(EVERY))
    _reported: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """The events sent, by id, and when."""

    def step(self, now: datetime) -> None:
        """Report every lost run, if it is time to check. Raises ApiError."""
        if not self._rhythm.is_due(now):
            return
        self._rhythm.record_done(now)
        lost = LostRuns(self.api, self.clock)
        for state in read_runs(self.api, {"state": {"type": {"any_": ["RUNNING"]}}}):
            since, run = state.happening.occurred, state.run
            if not run.get("deployment_id") or not lost.is_lost(run["id"], since, now, self.limit):
                continue
            # A run of another project's worker may send no heartbeats at all.
            if self.api.has_event(HEARTBEAT, state.happening.resource.id, since):
                self._report(state, now)

    def _report(self, state: RunState, now: datetime) -> None:
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{LOST}/{state.happening.id}"))
        reported_at = self._reported.setdefault(identity, now)
        # The event keeps its id and time at each check, so that there is one alert.
        event = replace(state.happening, id=identity, event=LOST, occurred=reported_at)
        if reported_at == now:
            resource, related = dict(event.resource), [dict(one) for one in event.related]
            self.api.emit([Event(event.id, event.event, event.occurred, resource, related)])
        elif now - reported_at > GRACE:
            self.missed.ring(replace(state, happening=event), now)


LATE_AFTER = timedelta(seconds=15)
"""How long after its time Prefect sets a run to Late (PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS)."""
AFTER_OUTAGE = timedelta(seconds=30)
"""How long runs have to start after the server, or this sensor, is back."""
_UNSTARTED = ("SCHEDULED", "PENDING")


@dataclass
class RunDeadlines:
    """Posts alerts for runs that have missed a deadline, once for each attempt of a run and automation."""

    api: PrefectApi
    missed: MissedAlerts
    clock: Clock = field(default_factory=Clock)
    _begun_at: datetime | None = None
    _histories: dict[str, tuple[str, list[PrefectEvent]]] = field(
        default_factory=dict[str, tuple[str, list[PrefectEvent]]]
    )
    """The events of each run that has started, and the id of the state up to which they go."""
    _rung: set[tuple[str, int, str]] = field(default_factory=set[tuple[str, int, str]])
    """The attempts of runs for which an alert was posted, each with the automation."""

    def step(self, facts: RunFacts, now: datetime) -> None:
        """Post an alert for every run that is past a deadline. Raises ApiError."""
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
            # Prefect may set the run to Late only after this alert, and that is another event.
            attempt = (run["id"], run.get("run_count") or 0, automation.name)
            if attempt not in self._rung and self.missed.ring_for(automation, RunState(run, awaited.begun), now):
                self._rung.add(attempt)

    def _history(self, run: Found, facts: RunFacts) -> list[PrefectEvent]:
        """Return the events that Prefect emits for a run, the oldest first."""
        flow, deployment = facts.flow_of(run), facts.deployment_of(run)
        if run["state_type"] in _UNSTARTED and not run.get("run_count"):
            return [happening_of({**run, "state": _late(run)}, flow, deployment)]
        known = self._histories.get(run["id"])
        if known is None or known[0] != run["state"]["id"]:
            states: list[Mapping[str, Any]] = self.api.get(f"/flow_run_states/?flow_run_id={run['id']}")
            history: list[PrefectEvent] = []
            attempts = 0
            for state in sorted(states, key=lambda one: datetime.fromisoformat(one["timestamp"])):
                attempts += state["type"] == "RUNNING"
                history.append(happening_of({**run, "state": state, "run_count": attempts}, flow, deployment))
            known = self._histories[run["id"]] = (run["state"]["id"], history)
        return known[1]


def watching_since(begun_at: datetime | None, api: PrefectApi, clock: Clock) -> datetime:
    """Return since when this sensor and the server have both been up without a pause."""
    return clock.not_before_resumed(max(filter(None, (begun_at, api.unreached_at)), default=clock.utc()))


def _late(run: Found) -> dict[str, Any]:
    """Return the Late state of a run that has not started, as Prefect writes it 15 s after the run's time.

    The run need not be Late yet.
    """
    state: Mapping[str, Any] = run["state"]
    due = waits_since(run) if run["state_type"] == "SCHEDULED" else datetime.fromisoformat(run["expected_start_time"])
    identity = state["id"] if state["name"] == "Late" else str(uuid.uuid5(uuid.NAMESPACE_OID, f"late/{state['id']}"))
    at = (due + LATE_AFTER).isoformat()
    return {**state, "id": identity, "name": "Late", "type": "SCHEDULED", "timestamp": at}


logger = logging.getLogger(__name__)

WAITING = "run.waiting"
RELEASED = "run.released"
AFTER = timedelta(minutes=5)
TROUBLE = "run.hold."
"""Prefix of the keys under which the outbox records what holds runs."""


@dataclass(frozen=True)
class Held:
    """A run and what holds it."""

    run: Found
    hold: RunHold


@dataclass
class WaitingRuns:
    """Reports runs that should be working and are not."""

    api: PrefectApi
    missed: MissedAlerts
    clock: Clock = field(default_factory=Clock)
    after: timedelta = AFTER
    _begun_at: datetime | None = None
    _reported: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """The keys of the holds that were reported, and when."""
    _unproved: dict[str, tuple[PrefectEvent, datetime]] = field(
        default_factory=dict[str, tuple[PrefectEvent, datetime]]
    )
    """The events sent lately, by id, and when; they are checked for an alert once GRACE has passed."""

    def step(self, facts: RunFacts, ours: frozenset[str], now: datetime) -> None:
        """Report what holds the runs of the deployments with these ids. Raises ApiError."""
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
        """Set runs of arrivals that can never start to Crashed, so that the arrivals are announced again."""
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
        """Return whether an automation reports this run as not started."""
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
                self._emit(PrefectEvent(identity, RELEASED, now, _resource(key), payload=payload), now)

    def _emit(self, happening: PrefectEvent, now: datetime) -> None:
        resource, related = dict(happening.resource), [dict(one) for one in happening.related]
        payload = dict(happening.payload)
        self.api.emit([Event(happening.id, happening.event, happening.occurred, resource, related, payload)])
        self._unproved[happening.id] = (happening, now)


def _waiting(key: str, held: Sequence[Held], first: Held, facts: RunFacts, now: datetime) -> PrefectEvent:
    run, hold = first.run, first.hold
    return PrefectEvent(
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
            "since": local_time(hold.since),
            "reason": hold.reason,
            "mend": hold.mend,
        },
    )


def _resource(key: str) -> Resource:
    return Resource({"prefect.resource.id": f"{TROUBLE}{key}", "prefect.resource.name": key})


# Report scheduled runs whose time has passed and that do not exist on the server.
#
# Prefect's scheduler plans runs ahead. If it was not running in time, or someone deleted a run, nothing in Prefect
# notices.

MISSING_AFTER = timedelta(seconds=15)
"""How long after its time the server is searched for a run."""
PLANNED_WITHIN = timedelta(seconds=30)
"""How long Prefect has to plan the runs of a schedule that was created, changed or resumed."""
LOOK_BACK = timedelta(days=7)
_PROGRESS = "schedules"


@dataclass(frozen=True)
class ExpectedRun:
    """A time at which a schedule wanted a run."""

    at: datetime
    schedule: Mapping[str, Any]


@dataclass
class MissingRuns:
    """Compares the schedules of all deployments with the runs that exist."""

    api: PrefectApi
    missed: MissedAlerts
    _reported: dict[str, tuple[PrefectEvent, datetime]] = field(
        default_factory=dict[str, tuple[PrefectEvent, datetime]]
    )
    """The events sent, by id, and when."""
    _reported_until: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """The last missing time reported for each deployment."""

    def step(self, facts: RunFacts, now: datetime) -> None:
        """Report the runs missing since the last check. Raises ApiError; the next step begins at the same point."""
        ringer, until = self.missed.ringer, now - MISSING_AFTER
        begin = max(min(ringer.progress(_PROGRESS) or until, until), now - LOOK_BACK)
        for deployment in facts.deployments.values():
            after = max(begin, self._reported_until.get(deployment["id"], begin))
            if wanted := wanted_runs(deployment, after, until):
                self._report(deployment, self._without_run(deployment, wanted), facts, now)
        for identity, (happening, at) in list(self._reported.items()):
            if now - at > GRACE:
                self.missed.ring(RunState({}, happening), now)
                del self._reported[identity]
        # After a restart the latest missing runs are found again, and their alert is posted if the event was lost.
        ringer.record_progress(_PROGRESS, max(begin, until - 2 * GRACE))

    def _without_run(self, deployment: Found, wanted: list[ExpectedRun]) -> list[ExpectedRun]:
        span = {"after_": wanted[0].at.isoformat(), "before_": wanted[-1].at.isoformat()}
        runs = {"deployment_id": {"any_": [deployment["id"]]}, "expected_start_time": span}
        found = self.api.results("/flow_runs/filter", {"flow_runs": runs, "sort": "EXPECTED_START_TIME_ASC"})
        there = {datetime.fromisoformat(run["expected_start_time"]) for run in found}
        return [one for one in wanted if one.at not in there]

    def _report(self, deployment: Found, missing: list[ExpectedRun], facts: RunFacts, now: datetime) -> None:
        if not missing:
            return
        happening = _happening(deployment, missing, facts, now)
        resource, related = dict(happening.resource), [dict(one) for one in happening.related]
        payload = dict(happening.payload)
        self.api.emit([Event(happening.id, happening.event, happening.occurred, resource, related, payload)])
        self._reported[happening.id] = (happening, now)
        self._reported_until[deployment["id"]] = missing[-1].at


def wanted_runs(deployment: Found, after: datetime, until: datetime) -> list[ExpectedRun]:
    """Return the times in a period at which a deployment's schedules, as they are now, wanted runs."""
    if deployment.get("paused"):
        return []
    return sorted(_wanted_runs(deployment, after, until), key=lambda one: one.at)


def _wanted_runs(deployment: Found, after: datetime, until: datetime) -> Iterator[ExpectedRun]:
    for one in parts(deployment, "schedules"):
        # The schedule before a change is unknown, and nothing was planned before a pause ended.
        changed_at = max(datetime.fromisoformat(which["updated"]) for which in (deployment, one))
        if one.get("active"):
            for at in times(one["schedule"], max(after, changed_at + PLANNED_WITHIN), until):
                yield ExpectedRun(at, one["schedule"])


def _happening(deployment: Found, missing: list[ExpectedRun], facts: RunFacts, now: datetime) -> PrefectEvent:
    first, last = missing[0], missing[-1]
    flow = facts.flow_of(deployment)
    state = {"id": "", "name": "", "type": "", "timestamp": now.isoformat()}
    run = {"id": "", "name": "", "state": state, **_pool_of(deployment)}
    return PrefectEvent(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{MISSING}/{deployment['id']}/{first.at.isoformat()}")),
        event=MISSING,
        occurred=now,
        resource=Resource(
            {
                "prefect.resource.id": f"prefect.deployment.{deployment['id']}",
                "prefect.resource.name": deployment["name"],
            }
        ),
        related=happening_of(run, flow, deployment).related,
        payload={
            "deployment": facts.full_name(deployment),
            "due": first.at.isoformat(),
            "first": local_minute(first.at),
            "last": local_minute(last.at),
            "more": len(missing) - 1,
            "schedule": in_words(first.schedule),
        },
    )


def _pool_of(deployment: Found) -> dict[str, Any]:
    return {"work_queue_id": deployment.get("work_queue_id"), "work_queue_name": deployment.get("work_queue_name")}
