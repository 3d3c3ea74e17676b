"""The watchman: tells Prefect that the sensor is alive, and looks for missing alerts and for the server itself."""

import logging
import uuid
from datetime import datetime, timedelta

from automations.alert_service import AlarmSettings, Bell, FailingChannel, Ringer, Unless, automations_in_files
from sensors.alerts.heartbeat import Heartbeat, sensor_name
from sensors.alerts.missing_runs import MissingRuns
from sensors.alerts.overdue_runs import WaitingRuns
from sensors.alerts.reconcile import MissedAlerts
from sensors.alerts.rhythm import Rhythm
from sensors.alerts.run_deadlines import RunDeadlines
from sensors.alerts.server_alarm import read_server_alarm
from sensors.alerts.server_silence import ServerSilence
from sensors.alerts.stuck_runs import StuckRuns
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.ledger import Ledger, dismissals
from sensors.runs.api import ApiError, Event, PrefectApi
from sensors.runs.facts import read_run_facts
from sensors.runs.issues import RunIssue, read_run_issues
from sensors.runs.ours import our_deployments
from sensors.runtime.clock_part import Clock

logger = logging.getLogger(__name__)

UNDELIVERED = "alert.undelivered"
SETTINGS_EVERY = timedelta(seconds=10)
RUNS_EVERY = timedelta(seconds=10)
FORGET_EVERY = timedelta(hours=1)
PAUSE_SECONDS = 1.0


class Watchman:
    """Looks after the bell and the server; in its loop it is the only one that waits for the server."""

    def __init__(self, settings: Settings, bell: Bell, clock: Clock, alarm: AlarmSettings) -> None:
        self.bell = bell
        self._clock = clock
        self._api = PrefectApi(settings.api_url, settings.auth_string)
        self._ringer = Ringer(bell)
        self._heartbeat = Heartbeat(self._api, self._ringer, sensor_name(settings.sensor_port))
        page = settings.prefect_page
        self._silence = ServerSilence(self._ringer, page, timedelta(seconds=alarm.server_silent_seconds), clock)
        self._ledger = Ledger(settings.ledger_path, make=False)
        self._missed = MissedAlerts(self._api, self._ringer, self._ledger, page, automations_in_files())
        self._stuck = StuckRuns(self._api, self._missed, timedelta(seconds=alarm.run_stuck_seconds), clock)
        self._deadlines = RunDeadlines(self._api, self._missed, clock)
        self._missing = MissingRuns(self._api, self._missed)
        self._waiting = WaitingRuns(self._api, self._missed, clock)
        self._settings = Rhythm(SETTINGS_EVERY)
        self._runs = Rhythm(RUNS_EVERY)
        self._forgetting = Rhythm(FORGET_EVERY)
        self.run_issues: tuple[RunIssue, ...] = ()
        """The runs that needed attention at the last look, those that were dismissed since included."""

    def step(self) -> float:
        """Look at everything once; return the seconds until the next look."""
        now = self._clock.utc()
        try:
            self._ask(now)
        except ApiError as error:
            self._silence.not_heard(str(error), now)
            self._missed.ring_unsent(now)
            self._ringer.release_overdue(now)
        else:
            self._silence.heard(now)
        if self._forgetting.is_due(now):
            self._ringer.forget_old(now)
            self._forgetting.record_done(now)
        return PAUSE_SECONDS

    @property
    def is_server_silent(self) -> bool:
        """Whether the server did not answer when it was asked last; there is an alert for that."""
        return self._silence.is_silent

    def close(self) -> None:
        """Close what this one has opened for itself."""
        self._ringer.close()
        self._ledger.close()
        self._api.close()

    def _ask(self, now: datetime) -> None:
        self._heartbeat.step(now)
        if self._settings.is_due(now):
            self._read_settings()
            self._settings.record_done(now)
        self._missed.step(now)
        if self._missed.automations:
            self._stuck.step(now)
        if self._runs.is_due(now):
            self._look_at_runs(now)
            self._runs.record_done(now)
        self._ringer.verify(self._has_come, now)
        for channel in self._ringer.failing_channels(now):
            self._api.emit([_undelivered(channel, now)])
            self._ringer.record_told(channel, now)
            logger.warning("alerts are not delivered to %s: %s", channel.name, channel.failure)

    def _look_at_runs(self, now: datetime) -> None:
        facts = read_run_facts(self._api, now)
        ours = our_deployments(facts, PROJECT_ROOT)
        self._waiting.give_up(facts, ours)
        if self._missed.automations:
            self._deadlines.step(facts, now)
            self._missing.step(facts, now)
            self._waiting.step(facts, ours, now)
        self.run_issues = read_run_issues(self._api, facts, ours, dismissals.of_runs(self._ledger), now)

    def _read_settings(self) -> None:
        found = read_server_alarm(self._api)
        if found.outbox != str(self.bell.outbox.path):
            # Another sensor has the bell of this server: it knows what was told, and we do not. Ours tells of the
            # server's silence only, by our own settings.
            self._missed.automations = []
            self.bell.policy = self.bell.policy
            return
        self._missed.automations = found.automations
        if found.policy is not None:
            self.bell.policy = found.policy

    def _has_come(self, unless: Unless) -> bool:
        # What made the alert is an event of the same kind, often: only a later one counts.
        return self._api.has_event(unless.event, unless.resource, unless.after + timedelta(milliseconds=1))


def _undelivered(channel: FailingChannel, now: datetime) -> Event:
    failing = f"{UNDELIVERED}/{channel.channel}/{channel.failing_since.isoformat()}"
    return Event(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, failing)),
        event=UNDELIVERED,
        occurred=now,
        resource={"prefect.resource.id": f"alert.channel.{channel.channel}", "prefect.resource.name": channel.name},
        payload={
            "since": f"{channel.failing_since.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            "reason": channel.failure,
            "waiting": channel.waiting,
        },
    )
