"""The alarm: the bell and its watchman, opened when they can be, so that a broken outbox keeps no file waiting."""

from automations.bell import AlarmSettings, Bell, OutboxError, open_bell
from sensors.clock import Clock
from sensors.ringing.watchman import Watchman
from sensors.settings import Settings


class Alarm:
    """Two loops' steps: one delivers alerts, the other looks for what should have led to one."""

    def __init__(self, settings: Settings, alarm_settings: AlarmSettings, clock: Clock) -> None:
        self._settings = settings
        self._alarm_settings = alarm_settings
        self._clock = clock
        self._bell: Bell | None = None
        self._watchman: Watchman | None = None

    def deliver(self) -> float:
        """Begin to deliver what is due; return the seconds until the next look. Raises OutboxError, sqlite3.Error."""
        bell = self._bell = self._bell or open_bell(self._alarm_settings)
        try:
            return bell.step(self._clock.utc())
        except OutboxError:  # whoever moved a broken one away finds that it works again
            self._bell = None
            bell.close()
            raise

    def watch(self) -> float:
        """Look at everything once; return the seconds until the next look. Raises OutboxError, sqlite3.Error."""
        bell = self._bell
        if bell is None:
            return 1.0  # the other loop tells why
        if self._watchman is None or self._watchman.bell is not bell:
            if self._watchman is not None:
                self._watchman.close()
            self._watchman = Watchman(self._settings, bell, self._clock, self._alarm_settings)
        return self._watchman.step()

    def close(self) -> None:
        """Begin no delivery any more."""
        if self._bell is not None:
            self._bell.close()
