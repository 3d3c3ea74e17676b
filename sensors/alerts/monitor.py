"""Report each issue of the sensor itself once, and its end once, without using the part that is broken.

An alert goes into the outbox, from which the bell loop delivers it. If the bell loop or the outbox is broken, the alert
is sent directly. Neither way needs the ledger, Prefect's server or its automations.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from automations.alert_service import (
    ALERTS,
    Alert,
    AlertMetadata,
    AlertSettings,
    NewAlert,
    OutboxError,
    Policy,
    direct_sender,
    read_open_troubles,
)
from automations.sqlite_file import identity_of
from sensors.alerts.in_place import FolderGuard, LedgerGuard
from sensors.alerts.issues import ChangeKind, Issue, IssueChange, IssueTracker, issue_of, issues_of
from sensors.files.file_systems import DiskSpace
from sensors.runtime.clock import Clock
from sensors.runtime.descriptors import reserve_opened
from sensors.runtime.loop import Loop

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
INSPECT_SECONDS = 2.0
PAGE_SECONDS = 15.0
PAGE_TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 1.0


def no_silence() -> bool:
    """Return False: the server is not known to be silent."""
    return False


class Inspection:
    """The step of a loop that checks disks, files, folders and the page; each check may block, hence the loop."""

    def __init__(
        self, space: DiskSpace, guards: Callable[[], Sequence[LedgerGuard | FolderGuard]], page_url: str, clock: Clock
    ) -> None:
        """`guards` opens the files and folders to watch when the loop begins; `page_url` is this sensor's address."""
        self._space = space
        self._open_guards = guards
        self._guards: Sequence[LedgerGuard | FolderGuard] | None = None
        self._page_url = page_url
        self._page_due = clock.monotonic() + PAGE_SECONDS
        self._clock = clock
        self._page_issue: Issue | None = None
        self.issues: tuple[Issue, ...] = ()
        """The findings of the last check."""

    def step(self) -> float:
        """Check everything once; return the seconds until the next check."""
        if self._guards is None:
            self._guards = self._open_guards()
        self._space.look()
        found = [*self._low_disks(), *(issue for guard in self._guards for issue in guard.look())]
        if self._clock.monotonic() >= self._page_due:
            self._page_issue = self._ask_page()
            self._page_due = self._clock.monotonic() + PAGE_SECONDS
        self.issues = (*found, *([self._page_issue] if self._page_issue else []))
        return INSPECT_SECONDS

    def _low_disks(self) -> Iterable[Issue]:
        for one, scarce in self._space.low:
            title = f"Little room is left on {one.named}"
            mend = "make room, or set DISK_FREE_MIN; below a quarter of it files wait in their inboxes"
            key = f"disk space {one.folders[0]}"
            yield Issue(key, title, {one.named: scarce}, mend, is_warning=True, patience_seconds=0)

    def _ask_page(self) -> Issue | None:
        try:
            httpx.get(f"{self._page_url}/healthz", timeout=PAGE_TIMEOUT_SECONDS, trust_env=False)
        except (httpx.HTTPError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            if "Too many open files" in reason:
                return issue_of("descriptors", {"page": reason})
            mend = "`just logs sensor`; if it stays so, stop `just up` and run it again: no file is lost"
            return Issue("page", "The drop page does not answer", {self._page_url: reason}, mend)
        return None

    def close(self) -> None:
        """Close the guards."""
        for guard in self._guards or ():
            if isinstance(guard, LedgerGuard):
                guard.close()


class Monitor:
    """The step of a loop that detects issues, and a thread that sends the alerts about them."""

    def __init__(
        self,
        sensor: str,
        loops: Sequence[Loop],
        inspection: Inspection,
        clock: Clock,
        alarm: AlertSettings,
        policy: Callable[[], Policy],
        is_server_silent: Callable[[], bool] = no_silence,
    ) -> None:
        """`sensor` is the sensor's name; `policy` returns the alert policy in force."""
        self._loops = loops
        self._inspection = inspection
        self._clock = clock
        self._is_server_silent = is_server_silent
        self._tracker = IssueTracker(alarm.sensor_trouble_seconds)
        self._sender = IssueSender(sensor, alarm, policy)
        self._has_adopted = False

    def issues(self) -> dict[str, Issue]:
        """Return the current issues by key, whether or not they have lasted long enough for an alert."""
        return {**self.findings(), **issues_of(self._loops, is_server_silent=self._is_server_silent())}

    def findings(self) -> dict[str, Issue]:
        """Return the current issues by key, except those of the loops."""
        return {issue.key: issue for issue in self._inspection.issues}

    def step(self) -> float:
        """Detect issues and send the alerts that are due; return the seconds until the next check."""
        found, resumed = self.issues(), self._clock.resumed()
        self._sender.is_outbox_broken = any(
            key in {"outbox", "descriptors"} or "bell" in issue.parts for key, issue in found.items()
        )
        if not self._has_adopted:
            self._tracker.adopt(self._sender.reported(), self._clock.monotonic())
            self._has_adopted = True
        for change in self._tracker.look(found.values(), self._clock.monotonic(), resumed and resumed.monotonic):
            self._sender.send(change, self._clock.utc())
        return LOOK_SECONDS

    def start(self) -> None:
        """Start the sending thread."""
        self._sender.start()

    def close(self) -> None:
        """Stop sending, and close the inspection."""
        self._sender.stop()
        self._inspection.close()


class IssueSender(threading.Thread):
    """Sends the alerts about issues one after the other, in a thread of its own: a channel may be slow."""

    def __init__(self, sensor: str, alarm: AlertSettings, policy: Callable[[], Policy]) -> None:
        super().__init__(name="issue alerts", daemon=True)
        self.is_outbox_broken = False
        """Whether the outbox, or the bell loop that delivers from it, is unreliable."""
        self._sensor = sensor
        self._alarm = alarm
        self._policy = policy
        self._waiting: queue.SimpleQueue[NewAlert | None] = queue.SimpleQueue()
        self._has_retries = False
        self._begun_with: dict[str, tuple[int, int] | None] = {}
        """The identity of the outbox file when an issue began, by the issue's key."""

    def reported(self) -> dict[str, str]:
        """Return the titles of the issues that were reported and are not over, by key; none if unknown."""
        prefix = _trouble(self._sensor, "")
        try:
            troubles = read_open_troubles(self._alarm.outbox, prefix)
        except (OutboxError, sqlite3.Error):
            return {}
        return {key.removeprefix(prefix): title for key, title in troubles.items()}

    def send(self, change: IssueChange, now: datetime) -> None:
        """Log a change, and queue the alert about it."""
        issue = change.issue
        level = logging.INFO if change.turn is ChangeKind.OVER else logging.ERROR
        logger.log(level, "%s: %s: %s", change.turn.value, issue.title, issue.detail)
        outbox = _identity(self._alarm.outbox)
        if change.turn is ChangeKind.BEGUN:
            self._begun_with[issue.key] = outbox
        posting = posting_of(self._sensor, change, now)
        if change.turn is ChangeKind.OVER and self._begun_with.pop(issue.key, outbox) != outbox:
            # This outbox does not know of the beginning, and would drop the alert about the end as needless.
            posting = replace(posting, cause=posting.cause.model_copy(update={"ends": None}))
        self._waiting.put(posting)

    def run(self) -> None:
        """Send until stopped."""
        while True:
            try:
                one = self._waiting.get(timeout=RETRY_SECONDS)
            except queue.Empty:
                self._guarded(self._retry)
                continue
            if one is None:
                return
            self._guarded(lambda one=one: self._send(one))

    def _send(self, posting: NewAlert) -> None:
        sender, now = direct_sender(self._alarm.outbox, self._alarm.alert_log), datetime.now(UTC)
        with reserve_opened():
            if self.is_outbox_broken:
                sender.send(posting, self._policy(), now)
                self._has_retries = True
            else:
                sender.post(posting, self._policy(), now)

    def _retry(self) -> None:
        """Retry the alerts that no channel accepted; the bell loop does that as well while it works."""
        if self._has_retries:
            with reserve_opened():
                direct_sender(self._alarm.outbox, self._alarm.alert_log).retry(self._policy(), datetime.now(UTC))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # this thread has to survive any failure
            logger.exception("an alert about the sensor itself could not be sent")
            time.sleep(RETRY_SECONDS)

    def stop(self) -> None:
        """Stop sending."""
        self._waiting.put(None)


def posting_of(sensor: str, change: IssueChange, now: datetime) -> NewAlert:
    """Return the alert about a change."""
    issue = change.issue
    since = (now - timedelta(seconds=change.lasted)).astimezone()
    trouble = _trouble(sensor, issue.key)
    lines = [f"Sensor: {sensor}"]
    if change.turn is ChangeKind.OVER:
        lines += [f"Lasted: {_duration(change.lasted)}", "Everything that has waited goes on now."]
        return NewAlert(
            Alert.of(f"Over: {issue.title}", "\n".join(lines)),
            AlertMetadata(
                id=f"{trouble}/over/{now.isoformat()}", kind="sensor-well", type="success", ends=trouble, group=sensor
            ),
            ALERTS,
        )
    parts = list(issue.detail.split("; "))
    lines += [f"Reason: {part:.300}" for part in parts[:5]]
    lines += [f"Since: {since:%Y-%m-%d %H:%M:%S %Z}", f"Next: {issue.mend}"]
    cause = AlertMetadata(
        id=f"{trouble}/{change.turn}/{now.isoformat()}",
        kind="sensor-trouble",
        type="warning" if issue.is_warning else "failure",
        opens=trouble if change.turn is ChangeKind.BEGUN else None,
        group=sensor,
    )
    return NewAlert(Alert.of(issue.title, "\n".join(lines)), cause, ALERTS)


def _identity(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        return identity_of(path)
    return None


def _trouble(sensor: str, key: str) -> str:
    return f"sensor-trouble/{sensor}/{key}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
