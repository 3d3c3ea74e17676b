"""A rhythm: something is done every so often, by a clock that may be set."""

import platform
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from automations.alert_service import Ringer
from sensors.runs.api import Event, PrefectApi


@dataclass
class Rhythm:
    """Tells when something is to be done again.

    By the wall clock, because a test or a person may turn it. One that is set back stops nothing: what was done in the
    future is done again.
    """

    every: timedelta
    _done_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Return whether it was not done within the last while."""
        return self._done_at is None or not timedelta(0) <= now - self._done_at < self.every

    def record_done(self, now: datetime) -> None:
        """Take note that it was done."""
        self._done_at = now


# The sensor's heartbeat: an event every few seconds, so that Prefect notices when the sensor is silent.

HEARTBEAT = "sensor.heartbeat"
BACK = "sensor.back"
EVERY = timedelta(seconds=10)
SILENT_FOR = timedelta(seconds=45)
"""After a longer pause the sensor tells that it is back; who was not told of its silence is not told of that either."""
_PROGRESS = "heartbeat"


@dataclass
class Heartbeat:
    """Sends the heartbeats of one sensor."""

    api: PrefectApi
    ringer: Ringer
    sensor: str
    """What tells this sensor from others: the machine and the sensor's port."""
    _rhythm: Rhythm = field(default_factory=lambda: Rhythm(EVERY))

    def step(self, now: datetime) -> bool:
        """Send a heartbeat if one is due; say whether. Raises ApiError, and sends it with the next step then."""
        if not self._rhythm.is_due(now):
            return False
        events = [self._event(HEARTBEAT, str(uuid.uuid4()), now)]
        if since := self._silent_since(now):
            # The same event for the same silence, so that Prefect and the outbox know a repeated one.
            identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._resource_id}/{BACK}/{since.isoformat()}"))
            shown = f"{since.astimezone():%Y-%m-%d %H:%M:%S %Z}"
            events.append(self._event(BACK, identity, now, since=shown))
        self.api.emit(events)
        self.ringer.record_progress(_PROGRESS, now)
        self._rhythm.record_done(now)
        return True

    def _silent_since(self, now: datetime) -> datetime | None:
        """Return since when this sensor was silent, until those who were told of it know that it is over."""
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
    """Return a name for the sensor on this machine that has this port, the same after every restart."""
    return f"{platform.node() or 'localhost'}-{port}"
