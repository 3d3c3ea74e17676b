"""Deliver alerts and watch Prefect's server from the sensor's process, with one loop for each.

The watching loop sends the heartbeat, posts the alerts that the server has missed, and reports a server that does not
answer, which only the sensor can do. It reads the alert policy and the automations from the server.
"""

import logging
import sqlite3
import threading
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from automations.alert_service import (
    ALERTS,
    FALLBACK,
    AlertService,
    AlertSettings,
    Dispatcher,
    FailingChannel,
    OutboxError,
    Policy,
    SendingAutomation,
    Unless,
    automations_in_files,
    automations_on_server,
    direct_sender,
    open_dispatcher,
    policy_of_blocks,
    server_back,
    server_silent,
)
from sensors.alerts.heartbeat import Heartbeat, Interval, sensor_name
from sensors.alerts.overdue_runs import LostRunAlerts, MissingRuns, RunDeadlines, WaitingRuns
from sensors.alerts.reconcile import MissedAlerts
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.ledger import Ledger, files
from sensors.runs.api import ApiError, Event, PrefectApi
from sensors.runs.facts import our_deployments, read_run_facts
from sensors.runs.issues import RunIssue, read_run_issues
from sensors.runtime.clock import Clock
from sensors.runtime.text import local_time


@dataclass
class ServerSilence:
    """Reports that the server has not answered for a while, and that it answers again."""

    ringer: AlertService
    url: str
    patience: timedelta
    clock: Clock = field(default_factory=Clock)
    """Knows of suspensions of this process, during which no one listened to the server."""
    _silent_since: datetime | None = None
    _is_told: bool = False
    _is_checked: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether the server did not answer the last request."""
        return self._silent_since is not None

    def heard(self, now: datetime) -> None:
        """Note that the server has answered."""
        if self._is_told or not self._is_checked:
            # Also after a restart of the sensor: the outbox knows whether the silence was reported.
            self.ringer.post(server_back(self.url, now), now)
        self._silent_since, self._is_told, self._is_checked = None, False, True

    def not_heard(self, why: str, now: datetime) -> None:
        """Note that the server has not answered."""
        self._silent_since = self.clock.not_before_resumed(min(self._silent_since or now, now))
        if not self._is_told and now - self._silent_since >= self.patience:
            posting = server_silent(self.url, self._silent_since, why, now)
            # After a restart the sensor does not report the same silence again.
            if self.ringer.trouble_since(posting.cause.opens or "") is None:
                self.ringer.post(posting, now)
            self._is_told = True


@dataclass(frozen=True)
class ServerAlertSettings:
    """The alert settings that are in force on the server."""

    policy: Policy | None
    """None if the server has no alerts block of this project, or one that cannot be read."""
    automations: list[SendingAutomation]
    outbox: str | None
    """The outbox into which the server's block posts its alerts."""


def read_server_alarm(api: PrefectApi) -> ServerAlertSettings:
    """Read the notification blocks, and the automations that send through them, from the server. Raises ApiError.

    Not from the sensor's own settings: the server has what was applied last, or edited in its UI.
    """
    blocks: dict[str, dict[str, Any]] = {
        one["name"]: one
        for one in api.results(
            "/block_documents/filter",
            {"block_types": {"slug": {"any_": ["apprise-alerts"]}}, "include_secrets": True},
        )
        if one["name"] in {ALERTS, FALLBACK}
    }
    automations = list(api.results("/automations/filter", {}))
    data = {name: one["data"] for name, one in blocks.items()}
    policy = policy_of_blocks(data[ALERTS], data.get(FALLBACK, {})) if ALERTS in data else None
    sending = automations_on_server(automations, {one["id"]: name for name, one in blocks.items()})
    return ServerAlertSettings(policy, sending, data.get(ALERTS, {}).get("outbox"))


logger = logging.getLogger(__name__)

UNDELIVERED = "alert.undelivered"
SETTINGS_EVERY = timedelta(seconds=10)
RUNS_EVERY = timedelta(seconds=10)
FORGET_EVERY = timedelta(hours=1)
PAUSE_SECONDS = 1.0


class ServerWatch:
    """The step of a loop that checks alerts, runs and the server; other alert loops do not wait for the server."""

    def __init__(self, settings: Settings, bell: Dispatcher, clock: Clock, alarm: AlertSettings) -> None:
        self.bell = bell
        self._clock = clock
        self._api = PrefectApi(settings.api_url, settings.auth_string)
        self._ringer = AlertService(bell)
        self._heartbeat = Heartbeat(self._api, self._ringer, sensor_name(settings.sensor_port))
        page = settings.prefect_page
        self._silence = ServerSilence(self._ringer, page, timedelta(seconds=alarm.server_silent_seconds), clock)
        self._ledger = Ledger(settings.ledger_path, make=False)
        self._missed = MissedAlerts(self._api, self._ringer, self._ledger, page, automations_in_files())
        self._lost = LostRunAlerts(self._api, self._missed, timedelta(seconds=alarm.run_stuck_seconds), clock)
        self._deadlines = RunDeadlines(self._api, self._missed, clock)
        self._missing = MissingRuns(self._api, self._missed)
        self._waiting = WaitingRuns(self._api, self._missed, clock)
        self._settings = Interval(SETTINGS_EVERY)
        self._runs = Interval(RUNS_EVERY)
        self._forgetting = Interval(FORGET_EVERY)
        self.run_issues: tuple[RunIssue, ...] = ()
        """The runs that needed attention at the last check, including those dismissed since."""

    def step(self) -> float:
        """Check everything once; return the seconds until the next check."""
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
        """Whether the server did not answer the last request; there is an alert for that."""
        return self._silence.is_silent

    def close(self) -> None:
        """Close the connections that this object has opened."""
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
            self._lost.step(now)
        if self._runs.is_due(now):
            self._look_at_runs(now)
            self._runs.record_done(now)
        self._ringer.verify(self._has_come, now)
        for channel in self._ringer.failing_channels(now):
            self._api.emit([_undelivered(channel, now)])
            self._ringer.record_reported(channel, now)
            logger.warning("alerts are not delivered to %s: %s", channel.name, channel.failure)

    def _look_at_runs(self, now: datetime) -> None:
        facts = read_run_facts(self._api, now)
        ours = our_deployments(facts, PROJECT_ROOT)
        self._waiting.give_up(facts, ours)
        if self._missed.automations:
            self._deadlines.step(facts, now)
            self._missing.step(facts, now)
            self._waiting.step(facts, ours, now)
        self.run_issues = read_run_issues(self._api, facts, ours, files.of_runs(self._ledger), now)

    def _read_settings(self) -> None:
        found = read_server_alarm(self._api)
        if found.outbox != str(self.bell.outbox.path):
            # The server's block posts into the outbox of another sensor, so only that sensor knows what was reported.
            # This one reports only the silence of the server, by its own settings.
            self._missed.automations = []
            self.bell.policy = self.bell.policy
            return
        self._missed.automations = found.automations
        if found.policy is not None:
            self.bell.policy = found.policy

    def _has_come(self, unless: Unless) -> bool:
        # The event that caused the alert is often of the same kind: only a later event counts.
        return self._api.has_event(unless.event, unless.resource, unless.after + timedelta(milliseconds=1))


def _undelivered(channel: FailingChannel, now: datetime) -> Event:
    failing = f"{UNDELIVERED}/{channel.channel}/{channel.failing_since.isoformat()}"
    return Event(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, failing)),
        event=UNDELIVERED,
        occurred=now,
        resource={"prefect.resource.id": f"alert.channel.{channel.channel}", "prefect.resource.name": channel.name},
        payload={
            "since": local_time(channel.failing_since),
            "reason": channel.failure,
            "waiting": channel.waiting,
        },
    )


class AlertLoops:
    """The steps of two loops: one delivers alerts, the other watches the server.

    Both open the outbox when they can, so that a broken outbox does not hold up any file.
    """

    def __init__(self, settings: Settings, alarm_settings: AlertSettings, clock: Clock) -> None:
        self._settings = settings
        self._alarm_settings = alarm_settings
        self._clock = clock
        self._bell: Dispatcher | None = None
        self._watchman: ServerWatch | None = None
        self._watching = threading.Lock()

    def deliver(self) -> float:
        """Start the deliveries that are due; return the seconds until the next. Raises OutboxError, sqlite3.Error."""
        now = self._clock.utc()
        try:
            bell = self._bell = self._bell or open_dispatcher(self._alarm_settings)
            return bell.step(now)
        except (OutboxError, sqlite3.Error) as error:
            # Alerts work again once the broken outbox has been moved away.
            bell, self._bell = self._bell, None if isinstance(error, OutboxError) else self._bell
            sender = direct_sender(self._alarm_settings.outbox, self._alarm_settings.alert_log)
            sender.retry(bell.policy if bell else self._alarm_settings.policy, now)
            if bell is not None and self._bell is None:
                bell.close()
            raise

    def watch(self) -> float:
        """Check everything once; return the seconds until the next check. Raises OutboxError, sqlite3.Error."""
        bell = self._bell
        if bell is None:
            return 1.0  # the other loop reports why
        with self._watching:
            if self._watchman is None or self._watchman.bell is not bell:
                if self._watchman is not None:
                    self._watchman.close()
                self._watchman = ServerWatch(self._settings, bell, self._clock, self._alarm_settings)
            return self._watchman.step()

    def run_issues(self) -> tuple[RunIssue, ...]:
        """Return the runs that needed attention at the last check of the server."""
        return () if self._watchman is None else self._watchman.run_issues

    @property
    def policy(self) -> Policy:
        """The alert policy from the server, or from the settings until the server has been read."""
        return self._bell.policy if self._bell else self._alarm_settings.policy

    @property
    def is_server_silent(self) -> bool:
        """Whether the server did not answer the last request."""
        return self._watchman is not None and self._watchman.is_server_silent

    def close(self) -> None:
        """Start no more deliveries, and close what is open, except what a check that is under way still uses."""
        if self._bell is not None:
            self._bell.close()
        if self._watching.acquire(blocking=False):
            if self._watchman is not None:
                self._watchman.close()
            self._watching.release()
