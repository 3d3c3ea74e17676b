"""Start and stop the sensor's loops: one for each inbox, those that use Prefect, housekeeping and alerts."""

import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from automations.alert_service import AlertSettings
from sensors.alerts.heartbeat import sensor_name
from sensors.alerts.in_place import FolderGuard, LedgerGuard
from sensors.alerts.issues import Issue
from sensors.alerts.monitor import Inspection, Monitor
from sensors.alerts.server_watch import AlertLoops
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox, WatchChoice
from sensors.config.settings import Settings
from sensors.files.file_systems import DiskSpace, Minimum
from sensors.files.permissions import ARRIVALS
from sensors.inbox.deadlines import OverdueCheck
from sensors.inbox.intake import InboxWatch, Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger, arrivals, maintenance
from sensors.ledger.maintenance import LedgerCheck
from sensors.ledger.states import ArrivalState
from sensors.runs.announcer import Announcer, NoticeSender, RunNamer
from sensors.runs.api import IDLE, PrefectApi, pause
from sensors.runs.facts import LostRuns
from sensors.runs.issues import RunIssue
from sensors.runs.outcomes import RunFollower
from sensors.runs.receipts import ReceiptFinder
from sensors.runtime.clock import Clock, Suspensions
from sensors.runtime.crash_points import kill_point
from sensors.runtime.descriptors import give_back_memory, keep_reserve
from sensors.runtime.json_logging import about_inbox
from sensors.runtime.loop import Loop
from sensors.web.metrics import troubles

if TYPE_CHECKING:
    from sensors.remote.scanner import RemoteWatch
    from sensors.remote.store import Store


# Delete old arrivals after their retention, report overdue files, and return free memory to the system.
#
# All of this works with or without a server.

logger = logging.getLogger(__name__)

AT_ONCE = 20
"""Arrivals deleted per step."""


@dataclass(frozen=True)
class Pruner:
    """Deletes loaded and skipped arrivals that are older than their inbox keeps them, with their ledger rows."""

    ledger: Ledger
    inboxes: Sequence[Inbox]
    clock: Clock

    def step(self) -> bool:
        """Delete some of the old arrivals; return whether there may be more. Raises OSError."""
        more = [self._prune(inbox, inbox.keep_days) for inbox in self.inboxes if inbox.keep_days]
        return any(more)

    def _prune(self, inbox: Inbox, keep_days: float) -> bool:
        before = self.clock.utc() - timedelta(days=keep_days)
        old = maintenance.prunable(self.ledger, inbox.name, before, AT_ONCE)
        for arrival_id, folder in old:
            # One transaction, so that no one can have the arrival announced again while its files are deleted.
            with self.ledger.transaction():
                if maintenance.forget(self.ledger, arrival_id):
                    if folder.exists():
                        shutil.rmtree(folder)
                    kill_point("files-pruned")
            with suppress(OSError):
                folder.parent.rmdir()  # the day's folder, if it is empty
        if old:
            logger.info(
                "inbox %s: %d arrivals older than %g days are deleted",
                inbox.name,
                len(old),
                keep_days,
                extra=about_inbox(inbox.name),
            )
        else:
            maintenance.forget_leftovers(self.ledger, inbox.name, before)
        return len(old) == AT_ONCE


AFTER_START_SECONDS = 5.0
"""Before a file is called overdue, the sensor has to see the files that came while it was down or suspended."""
PAUSE_SECONDS = 1.0
PRUNE_SECONDS = 60.0
TRIM_SECONDS = 60.0


class Housekeeping:
    """The step of a loop that reports overdue files, deletes old arrivals and trims memory."""

    def __init__(self, settings: Settings, inboxes: Sequence[Inbox], clock: Clock) -> None:
        ledger = Ledger(settings.ledger_path)
        self._punctuality = OverdueCheck(ledger, inboxes, clock)
        self._pruner = Pruner(ledger, inboxes, clock)
        self._clock = clock
        self._not_before = clock.monotonic() + AFTER_START_SECONDS
        self._prune_due = self._trim_due = self._not_before

    def step(self) -> float:
        """Do the tasks that are due; return the seconds until the next step."""
        now = self._clock.monotonic()
        if resumed := self._clock.resumed():
            self._not_before = max(self._not_before, resumed.monotonic + AFTER_START_SECONDS)
        if now < self._not_before:
            return self._not_before - now
        if now >= self._trim_due:
            give_back_memory()
            self._trim_due = now + TRIM_SECONDS
        changed = self._punctuality.step()
        more = False
        if now >= self._prune_due:
            more = self._pruner.step()
            self._prune_due = now if more else now + PRUNE_SECONDS
        return 0.0 if changed or more else PAUSE_SECONDS


# The loops that use Prefect: one announces arrivals, one looks up receipts and follows runs, one names runs.
#
# They are separate so that a new arrival does not wait while a busy server is asked about the others, and so that
# nothing waits for a run's name.


class RunLoops:
    """The three loops; each has its own connections to the ledger and to the server."""

    def __init__(
        self,
        settings: Settings,
        inboxes: Sequence[Inbox],
        clock: Clock,
        require_space: Callable[[], None] = lambda: None,
    ) -> None:
        """`require_space` raises while the disks are too full for more runs."""
        limits = {inbox.name: inbox.at_once for inbox in inboxes}
        events = {inbox.name: inbox.event for inbox in inboxes}
        self._announcer = Announcer(Ledger(settings.ledger_path), _api(settings), clock, limits, events)
        self._ledger = Ledger(settings.ledger_path)
        api = _api(settings)
        self._failed = FailedFolder(self._ledger, settings.failed_dir)
        self._is_shown = False
        self._namer = RunNamer(Ledger(settings.ledger_path), _api(settings), clock)
        self._clerk = ReceiptFinder(self._ledger, api, self._failed, clock, self._has_started)
        self._messenger = NoticeSender(self._ledger, api, clock)
        self._follower = RunFollower(self._ledger, api, self._failed, LostRuns(api, clock), clock)
        self._clock = clock
        self._require_space = require_space
        self._waiting_for_runs: Sequence[Loop] = ()
        self.announcing = Loop("announce", self._announce, clock)
        self.following = Loop("prefect", self._follow, clock)
        self.naming = Loop("run names", self._namer.step, clock)

    def wake_when_runs_end(self, intakes: Sequence[Loop]) -> None:
        """Have the intakes check immediately when a run has ended: the next arrival may have waited for that."""
        self._waiting_for_runs = intakes

    def _has_started(self, arrival_id: str, run_id: str) -> None:
        self._namer.notice(arrival_id, run_id)
        self.naming.wake.set()

    def _announce(self) -> float:
        """Announce what is due; return the seconds until the next check."""
        self._require_space()
        if not self._announcer.step():
            return IDLE
        self.following.wake.set()
        return 0.0

    def _follow(self) -> float:
        """Take one step of each kind; return the seconds until Prefect should be polled again."""
        if not self._is_shown:
            self._failed.show_all()
            self._is_shown = True
        has_ended = self._follower.step()
        if any([has_ended, self._clerk.step(), self._messenger.step()]):
            if has_ended:
                for loop in (self.announcing, *self._waiting_for_runs):
                    loop.wake.set()
            return 0.0
        now = self._clock.utc()
        waiting_since = [
            one.receipt_at or one.announced_at or now
            for state in (ArrivalState.STAGED, ArrivalState.ANNOUNCED, ArrivalState.RUNNING)
            for one in arrivals.in_state(self._ledger, state)
        ]
        return pause(waiting_since, now)


def _api(settings: Settings) -> PrefectApi:
    return PrefectApi(settings.api_url, settings.auth_string)


class SensorLoops:
    """All background loops; none of them runs before `start`."""

    def __init__(
        self,
        settings: Settings,
        inboxes: tuple[Inbox, ...],
        stores: "dict[str, Store]",
        alarm_settings: AlertSettings,
    ) -> None:
        """`stores` has the stores of the remote inboxes, by inbox name."""
        self._suspensions = Suspensions()
        self.clock = Clock(resumed=self._suspensions.resumed)
        self.loops: list[Loop] = []
        self.watches: dict[str, InboxWatch] = {}
        self._settings = settings
        self._inboxes = inboxes
        self._stores = stores
        self._alarm_settings = alarm_settings
        self._announcing: Loop | None = None
        self._alarm: AlertLoops | None = None
        self.space = DiskSpace(settings.disk_folders, Minimum.parse(settings.disk_free_min))
        self.monitor: Monitor | None = None

    def start(self) -> None:
        """Open the ledger and start every loop. Raises LedgerError."""
        settings, clock = self._settings, self.clock
        self._suspensions.start()
        self.space.look()
        prefect = RunLoops(settings, self._inboxes, clock, self.space.require)
        self._announcing = prefect.announcing
        for inbox in self._inboxes:
            self.watches[inbox.name] = _remote_watch(inbox, self._stores[inbox.name]) if inbox.url else _watch(inbox)
        self._alarm = alarm = AlertLoops(settings, self._alarm_settings, clock)
        # A loop for each inbox, so that a folder that cannot be read holds up no other inbox.
        intakes = [
            _intake_loop(settings, inbox, self.watches[inbox.name], prefect.announcing, clock, self.space)
            for inbox in self._inboxes
        ]
        prefect.wake_when_runs_end(intakes)
        inspection = Inspection(self.space, self._guards(), settings.sensor_url, clock)
        self.monitor = monitor = Monitor(
            sensor_name(settings.sensor_port),
            self.loops,
            inspection,
            clock,
            self._alarm_settings,
            lambda: alarm.policy,
            lambda: alarm.is_server_silent,
        )
        self.loops += [
            prefect.announcing,
            prefect.following,
            prefect.naming,
            *intakes,
            Loop("ledger check", LedgerCheck(settings.ledger_path).step, clock),
            Loop("housekeeping", Housekeeping(settings, self._inboxes, clock).step, clock),
            Loop("bell", alarm.deliver, clock),
            Loop("watchman", alarm.watch, clock),
            Loop("inspection", inspection.step, clock),
            Loop("monitor", monitor.step, clock),
        ]
        keep_reserve()
        monitor.start()
        for loop in self.loops:
            loop.start()
        logger.info("watching %s", ", ".join(inbox.where for inbox in self._inboxes))

    def problems(self) -> str:
        """Return what keeps this sensor from its work, the server included, as text; empty if nothing does."""
        wrong = [f"{name}: {trouble}" for name, trouble in troubles(self.loops).items()]
        wrong += [issue.title for issue in self.issues().values() if not issue.is_warning]
        if self._alarm is not None and self._alarm.is_server_silent:
            wrong.append("the server does not answer")
        return "; ".join(wrong)

    def issues(self) -> dict[str, Issue]:
        """Return the current issues by key, except those of the loops."""
        return self.monitor.findings() if self.monitor else {}

    def _guards(self) -> Callable[[], Sequence[LedgerGuard | FolderGuard]]:
        settings = self._settings
        kept = {"state folder": settings.state_dir, "folder of arrivals": settings.arrivals_dir}
        inboxes = {inbox.name: inbox.path for inbox in self._inboxes if inbox.url is None}
        folders = FolderGuard(kept, inboxes, settings.inbox_dir)
        return lambda: (folders, LedgerGuard(settings.ledger_path))

    def announce_now(self) -> None:
        """Wake the announcing loop, so that it announces without a pause."""
        if self._announcing is not None:
            self._announcing.wake.set()

    def run_issues(self) -> tuple[RunIssue, ...]:
        """Return the runs that needed attention at the last check."""
        return () if self._alarm is None else self._alarm.run_issues()

    def stop(self) -> None:
        """Stop the loops, wait up to 3 s for each to end its step, and close what is open."""
        self._suspensions.stop()
        for loop in self.loops:
            loop.stop()
        for watch in self.watches.values():
            watch.stop()  # a copy in progress would take longer than the wait below
        for loop in self.loops:
            loop.join(timeout=3)
        for watch in self.watches.values():
            watch.close()
        if self.monitor is not None:
            self.monitor.close()
        if self._alarm is not None:
            self._alarm.close()


def _watch(inbox: Inbox) -> Watch:
    return Watch(
        inbox.path,
        polling=inbox.watch is WatchChoice.POLLING,
        subfolders=inbox.subfolders,
        touches=inbox.done_file is not None,  # an old done-file may be used again
    )


def _remote_watch(inbox: Inbox, store: "Store") -> "RemoteWatch":
    from sensors.remote.scanner import RemoteWatch
    from sensors.remote.source import RemoteSource

    return RemoteWatch(inbox, RemoteSource(inbox, store))


def _intake_loop(
    settings: Settings,
    inbox: Inbox,
    watch: InboxWatch,
    announcing: Loop,
    clock: Clock,
    space: DiskSpace,
) -> Loop:
    ledger = Ledger(settings.ledger_path)
    stager = Stager(ledger, settings.arrivals_dir, clock, watch.origin, settings.readers.get(ARRIVALS))
    rejections = Rejections(inbox, ledger, FailedFolder(ledger, settings.failed_dir), clock)
    intake = Intake(inbox, watch, ledger, stager, rejections, clock)
    take_step = watch.patient(intake.step, announcing.wake.set)

    def step() -> float:
        space.require()
        done = take_step()
        if done.found_work:
            announcing.wake.set()
        return done.look_again_in

    loop = Loop(f"inbox {inbox.name}", step, clock)
    watch.attach(loop.wake, loop.beat)
    return loop
