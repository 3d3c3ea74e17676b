"""Start and stop the sensor's loops: one for each inbox, those that use Prefect, housekeeping and alerts."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from automations.alert_service import AlertSettings
from sensors.alerts.heartbeat import sensor_name
from sensors.alerts.in_place import FolderGuard, LedgerGuard
from sensors.alerts.issues import Issue
from sensors.alerts.monitor import Inspection, Monitor
from sensors.alerts.server_watch import AlertLoops
from sensors.arrivals.failed_links import FailedFolder
from sensors.arrivals.source import LocalSource
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import Inbox, WatchChoice
from sensors.config.settings import Settings
from sensors.daemon.housekeeping import Housekeeping
from sensors.daemon.run_loops import RunLoops
from sensors.files.file_systems import DiskSpace, Minimum
from sensors.files.permissions import ARRIVALS
from sensors.inbox.intake import Intake
from sensors.inbox.rejections import Rejections
from sensors.inbox.watcher import Watch
from sensors.ledger import Ledger
from sensors.ledger.maintenance import LedgerCheck
from sensors.runs.issues import RunIssue
from sensors.runtime.clock import Clock, Suspensions
from sensors.runtime.descriptors import keep_reserve
from sensors.runtime.loop import Loop
from sensors.web.probes import troubles

if TYPE_CHECKING:
    from sensors.remote.scanner import RemoteWatch
    from sensors.remote.store import Store

logger = logging.getLogger(__name__)


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
        self.watches: dict[str, Watch | RemoteWatch] = {}
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
            if not isinstance(watch, Watch):
                watch.close()  # a copy in progress would take longer than the wait below
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
    watch: "Watch | RemoteWatch",
    announcing: Loop,
    clock: Clock,
    space: DiskSpace,
) -> Loop:
    ledger = Ledger(settings.ledger_path)
    origin = LocalSource() if isinstance(watch, Watch) else watch.origin
    stager = Stager(ledger, settings.arrivals_dir, clock, origin, settings.readers.get(ARRIVALS))
    rejections = Rejections(inbox, ledger, FailedFolder(ledger, settings.failed_dir), clock)
    intake = Intake(inbox, watch, ledger, stager, rejections, clock)
    take_step = intake.step if isinstance(watch, Watch) else watch.patient(intake.step, announcing.wake.set)

    def step() -> float:
        space.require()
        done = take_step()
        if done.found_work:
            announcing.wake.set()
        return done.look_again_in

    loop = Loop(f"inbox {inbox.name}", step, clock)
    watch.wake = loop.wake
    if not isinstance(watch, Watch):
        watch.origin.beat = loop.beat
    return loop
