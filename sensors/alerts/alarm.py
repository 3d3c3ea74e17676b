"""The alarm: the bell and its watchman, opened when they can be, so that a broken outbox keeps no file waiting."""

import sqlite3

from automations.alert_service import AlarmSettings, Bell, OutboxError, Policy, direct_sender, open_bell
from sensors.alerts.server_watch import Watchman
from sensors.config.settings import Settings
from sensors.runs.issues import RunIssue
from sensors.runtime.clock_part import Clock


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
        now = self._clock.utc()
        try:
            bell = self._bell = self._bell or open_bell(self._alarm_settings)
            return bell.step(now)
        except (OutboxError, sqlite3.Error) as error:
            # Once a broken outbox has been moved away, alerts work again.
            bell, self._bell = self._bell, None if isinstance(error, OutboxError) else self._bell
            sender = direct_sender(self._alarm_settings.outbox, self._alarm_settings.alert_log)
            sender.retry(bell.policy if bell else self._alarm_settings.policy, now)
            if bell is not None and self._bell is None:
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

    def run_issues(self) -> tuple[RunIssue, ...]:
        """Return the runs that needed attention at the last look at the server."""
        return () if self._watchman is None else self._watchman.run_issues

    @property
    def policy(self) -> Policy:
        """Where alerts go: as the server has it, or until it was asked as the settings say."""
        return self._bell.policy if self._bell else self._alarm_settings.policy

    @property
    def is_server_silent(self) -> bool:
        """Whether the server did not answer when it was asked last."""
        return self._watchman is not None and self._watchman.is_server_silent

    def close(self) -> None:
        """Begin no delivery any more."""
        if self._bell is not None:
            self._bell.close()
