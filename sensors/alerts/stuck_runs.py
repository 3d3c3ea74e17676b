"""Stuck runs: a running flow that gives no sign of life any more is told to Prefect, as an event.

An automation of Prefect's own could wait for the next heartbeat of each run. But it writes to its database several
times for each run then, and on SQLite that has locked out everything else for a minute (measured).
"""

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sensors.alerts.failed_runs import RunState, read_runs
from sensors.alerts.reconcile import GRACE, MissedAlerts
from sensors.alerts.rhythm import Rhythm
from sensors.runs.api import Event, PrefectApi
from sensors.runs.lost_runs import HEARTBEAT
from sensors.runtime.clock_part import Clock

STUCK = "run.stuck"
EVERY = timedelta(seconds=10)


@dataclass
class StuckRuns:
    """Looks at the running flows of all deployments."""

    api: PrefectApi
    missed: MissedAlerts
    patience: timedelta
    """How long a run may give no sign of life; heartbeats come every 30 s."""
    clock: Clock = field(default_factory=Clock)
    """It knows whether this process was suspended: every run has its whole time again after that."""
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(EVERY))
    _told: dict[str, datetime] = field(default_factory=dict[str, datetime])
    """The events that were sent, and when."""

    def step(self, now: datetime) -> None:
        """Tell of every run that is stuck, if it is time to look. Raises ApiError."""
        if not self._rhythm.is_due(now):
            return
        self._rhythm.record_done(now)
        for state in read_runs(self.api, {"state": {"type": {"any_": ["RUNNING"]}}}):
            is_stuck = state.run.get("deployment_id") and self._is_stuck(state, now)
            # Evidence that was gathered before a suspension says nothing about the time after it.
            if is_stuck and self.clock.not_before_resumed(now) == now:
                self._tell(state, now)

    def _is_stuck(self, state: RunState, now: datetime) -> bool:
        # While the server was not reached, no heartbeat could reach it either.
        since = state.happening.occurred
        if now - self.clock.not_before_resumed(max(since, self.api.unreached_at or since)) < self.patience:
            return False
        run = state.happening.resource.id
        if self.api.has_event(HEARTBEAT, run, since=now - self.patience):
            return False
        # A run of somebody else's worker may be one that sends none at all.
        return self.api.has_event(HEARTBEAT, run, since=since)

    def _tell(self, state: RunState, now: datetime) -> None:
        identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{STUCK}/{state.happening.id}"))
        told_at = self._told.setdefault(identity, now)
        # The same event each time that it is looked at, so that nobody is told twice.
        event = replace(state.happening, id=identity, event=STUCK, occurred=told_at)
        if told_at == now:
            resource, related = dict(event.resource), [dict(one) for one in event.related]
            self.api.emit([Event(event.id, event.event, event.occurred, resource, related)])
        elif now - told_at > GRACE:
            self.missed.ring(replace(state, happening=event), now)
