"""Send Prefect an event every few seconds, so that an automation notices when the sensor falls silent.

`Interval` is the timer for this and for the other periodic checks.
"""

import platform
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from automations.alert_service import AlertService
from sensors.runs.api import Event, PrefectApi
from sensors.runtime.text import local_time


@dataclass
class Interval:
    """Says when a periodic task is due.

    It goes by the wall clock, because a test or a user may set that. A clock that is set back stops nothing: a task
    that was done in the future is due again.
    """

    every: timedelta
    _done_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Return whether the task was not done within the last period."""
        return self._done_at is None or not timedelta(0) <= now - self._done_at < self.every

    def record_done(self, now: datetime) -> None:
        """Note that the task was done."""
        self._done_at = now


HEARTBEAT = "sensor.heartbeat"
BACK = "sensor.back"
EVERY = timedelta(seconds=10)
SILENT_FOR = timedelta(seconds=45)
"""After a longer pause the sensor sends BACK; the outbox drops its alert if the silence was never reported."""
_PROGRESS = "heartbeat"


@dataclass
class Heartbeat:
    """Sends the heartbeats of one sensor."""

    api: PrefectApi
    ringer: AlertService
    sensor: str
    """Identifies this sensor: the machine and the sensor's port."""
    _rhythm: Interval = field(default_factory=lambda: Interval(EVERY))

    def step(self, now: datetime) -> bool:
        """Send a heartbeat if one is due; return whether one was. Raises ApiError; the next step sends it then."""
        if not self._rhythm.is_due(now):
            return False
        events = [self._event(HEARTBEAT, str(uuid.uuid4()), now)]
        if since := self._silent_since(now):
            # The same event id for the same silence, so that Prefect and the outbox recognise a repeated event.
            identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._resource_id}/{BACK}/{since.isoformat()}"))
            shown = local_time(since)
            events.append(self._event(BACK, identity, now, since=shown))
        self.api.emit(events)
        self.ringer.record_progress(_PROGRESS, now)
        self._rhythm.record_done(now)
        return True

    def _silent_since(self, now: datetime) -> datetime | None:
        """Return the start of this sensor's silence, until its end has been reported, or None."""
        last = self.ringer.progress(_PROGRESS)
        if last is not None and now - last > SILENT_FOR:
            return last
        return self.ringer.trouble_since(self._resource_id)

    @property
    def _resource_id(self) -> str:
        return f"sensor.{self.sensor}"

    def _event(self, name: str, identity: str, now: datetime, **payload: str) -> Event:
        resource = {"prefect.resource.id": self._resource_id, "prefect.resource.name": self.sensor}
        return Event(identity, name, now, resource, payload=payload)


def sensor_name(port: int) -> str:
    """Return a name for the sensor on this machine with this port, the same after every restart."""
    return f"{platform.node() or 'localhost'}-{port}"
