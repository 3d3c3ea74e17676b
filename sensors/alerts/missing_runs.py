"""Report scheduled runs whose time has passed and that do not exist on the server.

Prefect's scheduler plans runs ahead. If it was not running in time, or someone deleted a run, nothing in Prefect
notices.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import PrefectEvent, Resource
from sensors.alerts.reconcile import GRACE, MissedAlerts, RunState, happening_of
from sensors.runs.api import Event, PrefectApi
from sensors.runs.facts import Found, RunFacts, parts
from sensors.runs.issues import MISSING
from sensors.runs.schedules import in_words, times

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
        found = self.api.pages("/flow_runs/filter", {"flow_runs": runs, "sort": "EXPECTED_START_TIME_ASC"})
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
            "first": _local(first),
            "last": _local(last),
            "more": len(missing) - 1,
            "schedule": in_words(first.schedule),
        },
    )


def _pool_of(deployment: Found) -> dict[str, Any]:
    return {"work_queue_id": deployment.get("work_queue_id"), "work_queue_name": deployment.get("work_queue_name")}


def _local(wanted: ExpectedRun) -> str:
    return f"{wanted.at.astimezone():%Y-%m-%d %H:%M %Z}"
