"""Collect what `just status` shows: health of the services, counts of files, next runs, and what needs attention.

Prefect's API is read each time, whether or not the sensor runs. While it gives no usable answer, the parts that come
from it are empty: the health of the server reports the problem.
"""

import dataclasses
import shlex
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tzlocal import get_localzone

from automations.as_code import drift
from sensors.config.admission import readable
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.ledger import Ledger, files
from sensors.ledger.database import REBUILD
from sensors.ledger.states import FileState
from sensors.reports.arrivals import InboxActivity, InboxCounts, activity_of, read_counts, read_skipped
from sensors.reports.days import midnight_before
from sensors.reports.files import Alerts, BadFile, NeedsAttention, read_alerts, read_needs_attention
from sensors.runs.api import ApiError, PrefectApi, open_api
from sensors.runs.facts import our_deployments, read_run_facts
from sensors.runs.issues import BY_OTHERS, RunIssue, read_run_issues
from sensors.runtime.clock import Clock
from sensors.stack.errors import as_stack_error
from sensors.stack.health import NOT_RUNNING, Health, check, read_issues, read_watching
from sensors.stack.services import OPTIONAL, WORK_POOL, Service, newest_log, services_of
from sensors.stack.state_dir import other_ports


def read_drift(settings: Settings) -> dict[str, str]:
    """Return how each of the project's automations was changed on the server since it was applied, by its name.

    Empty while the server gives no usable answer.
    """
    ours = {"automations": {"tags": {"all_": [drift.owner_mark(drift.OWNER)]}}}
    try:
        with open_api(settings) as api:
            found = list(api.results("/automations/filter", ours))
    except (ApiError, ValueError):
        return {}
    return {one["name"]: how for one in found if (how := drift.drift(one))}


TIMEOUT_SECONDS = 5.0


def find_run_issues(settings: Settings, clock: Clock | None = None) -> tuple[RunIssue, ...]:
    """Return the runs that need attention, the most urgent first. Raises ApiError, LedgerError."""
    now = (clock or Clock()).utc()
    with PrefectApi(settings.api_url, settings.auth_string, TIMEOUT_SECONDS) as api:
        facts = read_run_facts(api, now)
        ours = our_deployments(facts, PROJECT_ROOT)
        return read_run_issues(api, facts, ours, _dismissed(settings), now)


def known_run_issues(settings: Settings) -> tuple[RunIssue, ...]:
    """Return the result of `find_run_issues`; empty while the server gives no usable answer. Raises LedgerError."""
    try:
        return find_run_issues(settings)
    except (ApiError, ValueError, LookupError):
        return ()


def _dismissed(settings: Settings) -> dict[str, datetime]:
    if not settings.ledger_path.exists():
        return {}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        return files.of_runs(ledger)


SCHEDULED = "Scheduled"
PAUSED = "paused"


@dataclass(frozen=True)
class NextRun:
    """The next scheduled run of a deployment.

    `at` is UTC, None while the schedules are paused; `state` is the name of the run's Prefect state, or `paused`.
    """

    deployment: str
    at: datetime | None
    state: str = SCHEDULED


def read_next_runs(settings: Settings) -> tuple[NextRun, ...]:
    """Return the next run of each deployment of the work pool that has schedules or a planned run, the soonest first.

    Empty while the server gives no usable answer.
    """
    pool = {"work_pools": {"name": {"any_": [WORK_POOL]}}}
    planned = {
        **pool,
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "created_by": BY_OTHERS},
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
    }
    try:
        with open_api(settings) as api:
            return next_runs(list(api.results("/deployments/filter", pool)), api.results("/flow_runs/filter", planned))
    except (ApiError, ValueError, LookupError):
        return ()


def next_runs(deployments: Collection[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> tuple[NextRun, ...]:
    """Return each deployment's next run from the API's deployments and runs; `runs` are ordered the soonest first."""
    first: dict[str, Mapping[str, Any]] = {}
    wanted = {one["id"] for one in deployments}
    for run in runs:
        # Runs of arrivals are due immediately and are counted as in flight.
        parameters: Mapping[str, Any] = run.get("parameters") or {}
        if not parameters.get("arrival_id"):
            first.setdefault(run["deployment_id"], run)
        if wanted <= first.keys():
            break  # the next page of runs is not needed
    found = [next_run for one in deployments if (next_run := _next_run(one, first.get(one["id"]))) is not None]
    return tuple(sorted(found, key=lambda one: (one.at is None, one.at and one.at.timestamp(), one.deployment)))


def _next_run(deployment: Mapping[str, Any], run: Mapping[str, Any] | None) -> NextRun | None:
    if run is not None:
        at = run.get("next_scheduled_start_time") or run["expected_start_time"]
        return NextRun(deployment["name"], datetime.fromisoformat(at), run.get("state_name") or SCHEDULED)
    schedules: list[Mapping[str, Any]] = deployment.get("schedules") or []
    if schedules and (deployment.get("paused") or not any(one.get("active") for one in schedules)):
        return NextRun(deployment["name"], None, PAUSED)
    return None


NOT_RUNNING_STATUS = 2
"""The exit status of `just status` for a stack that is not running, so that a script can start it."""


@dataclasses.dataclass(frozen=True)
class Status:
    """The state of a stack at one moment; counts are numbers of files."""

    settings: Settings
    services: dict[Service, Health]
    inboxes: dict[str, InboxCounts]
    trouble: NeedsAttention = dataclasses.field(default_factory=NeedsAttention)
    watching: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """How each inbox is watched (`events` or `polling`); empty while the sensor is down."""
    skipped: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """How many of an inbox's loaded files were skipped as duplicates."""
    alerts: Alerts = dataclasses.field(default_factory=Alerts)
    """Alerts that were not delivered."""
    drift: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """How automations of the project were changed on the server, by their names."""
    other_ports: str | None = None
    """A text with the ports that the stack runs on, if they differ from the settings."""
    glances: dict[str, InboxActivity] = dataclasses.field(default_factory=dict[str, InboxActivity])
    """What the counts do not show of each inbox: today's files, the file that waits longest, the last file."""
    next_runs: tuple[NextRun, ...] = ()
    """Empty while the server is down."""
    run_issues: tuple[RunIssue, ...] = ()
    """The runs that need attention; empty while the server is down."""
    issues: tuple[str, ...] = ()
    """Present or expected problems with the sensor's files and disks, a line each."""
    at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    """When the status was read."""

    @property
    def healthy(self) -> bool:
        """Whether every service is healthy, those in OPTIONAL aside."""
        return all(health.healthy for service, health in self.services.items() if service not in OPTIONAL)

    @property
    def exit_status(self) -> int:
        """0 if all is well, 1 if something needs attention, 2 if the stack is not running.

        Services in OPTIONAL do not count: they may still be starting when everything else is healthy.
        """
        if not self._is_running and not self.other_ports:
            return NOT_RUNNING_STATUS
        return 0 if self.healthy and not self._beside_services() else 1

    @property
    def _is_running(self) -> bool:
        return any(health.detail != NOT_RUNNING for health in self.services.values())

    def as_json(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return {
            "healthy": self.healthy,
            "inboxes": {name: books.model_dump() for name, books in self.inboxes.items()},
            "watching": self.watching,
            "skipped": self.skipped,
            "today": {
                name: {"files": glance.files_today, "rows": glance.rows_today} for name, glance in self.glances.items()
            },
            "oldest_waiting": {name: _stamp(glance.oldest_waiting) for name, glance in self.glances.items()},
            "last_file": {
                name: {"name": glance.last_name, "seen_at": _stamp(glance.last_seen)}
                for name, glance in self.glances.items()
                if glance.last_name is not None
            },
            "next_runs": [
                {"deployment": one.deployment, "at": _stamp(one.at), "state": one.state} for one in self.next_runs
            ],
            "run_issues": [
                {
                    "kind": one.kind.value,
                    "deployment": one.deployment,
                    "run_id": one.run_id,
                    "run": one.run_name,
                    "more": one.more,
                    "since": _stamp(one.since),
                    "reason": one.reason,
                    "mend": one.mend,
                }
                for one in self.run_issues
            ],
            "needs_a_person": self.needs_a_person(),
            "alerts": {
                "undelivered": self.alerts.undelivered,
                "perhaps_delivered": self.alerts.perhaps_delivered,
            },
            "drift": sorted(self.drift),
            "services": {name.value: dataclasses.asdict(health) for name, health in self.services.items()},
            "page": self.settings.prefect_page,
            "state_dir": str(self.settings.state_dir),
        }

    def needs_a_person(self) -> list[str]:
        """Return what needs attention, a line each, the most urgent first."""
        return [*self._broken_services(), *self._beside_services()]

    def _beside_services(self) -> list[str]:
        overdue = [
            f"inbox {name} is overdue since {at}; no one has dropped what {self.settings.inboxes_file} expects"
            for name, at in self.trouble.overdue.items()
        ]
        alerts = self.alerts.needs_a_person
        drifted = [
            f"automation {name} was changed on the server ({how}); `just plan` shows how, `just apply` puts it back"
            for name, how in self.drift.items()
        ]
        return [
            *self.issues,
            *alerts,
            *(one.line for one in self.run_issues),
            *overdue,
            *self._stalled_arrivals(),
            *self._blocked_files(),
            *drifted,
            *self._bad_files(),
        ]

    def _broken_services(self) -> list[str]:
        if self.other_ports:
            return [f"the stack of {self.settings.state_dir} {self.other_ports}; set that in .env"]
        if not self._is_running:
            return ["the stack is not running; start it with `just up`"]
        return [
            "; ".join([f"{service}: {health.detail}", *_missing(service), f"see {newest_log(self.settings, service)}"])
            for service, health in self.services.items()
            if not health.healthy
        ]

    def _stalled_arrivals(self) -> list[str]:
        return [
            f"arrival {one.id} has no run after {one.attempt} announcements: {one.reason}; "
            f"`just show {one.id}` shows more"
            for one in self.trouble.arrivals
        ]

    def _blocked_files(self) -> list[str]:
        """Return lines for the files that the sensor may not move, and for the number of further ones."""
        named = [
            f"inbox {one.inbox}: {readable(one.name)} cannot be taken since"
            f" {one.since.astimezone():%Y-%m-%d %H:%M:%S}: {one.reason}"
            for one in self.trouble.blocked
        ]
        more = [
            f"inbox {name}: {count} more {'file' if count == 1 else 'files'} cannot be taken; see the sensor's log"
            for name, count in self.trouble.more_blocked.items()
        ]
        return [*named, *more]

    def _bad_files(self) -> list[str]:
        """Return lines for the latest files that were not loaded, with reasons, and for the number of the rest."""
        lines = [
            f"{file.state} in inbox {file.inbox}: {file.name}: {file.reason}; {_mended_by(file)}"
            for file in self.trouble.files
        ]
        if not (more := self.trouble.more_files):
            return lines
        where = f"all of them are in {self.settings.failed_dir}"
        return [*lines, f"and {more} files more; {where}; `just dismiss --all` takes them off this list"]


def _mended_by(file: BadFile) -> str:
    dismiss = f"`just dismiss {file.arrival_id or shlex.quote(readable(file.name))}`"
    if file.state is FileState.FAILED:
        return f"`just retry {file.arrival_id}` tries it again, or {dismiss}"
    see = f"; see `just show {file.arrival_id}`" if file.arrival_id else ""
    return f"mend it, then `just drop` it, or {dismiss}{see}"


def _missing_ledger(settings: Settings) -> tuple[str, ...]:
    """Return a line if there are arrivals but no ledger; all counts are 0 then."""
    if settings.ledger_path.exists() or not any(settings.arrivals_dir.glob("*/*")):
        return ()
    return (f"the ledger at {settings.ledger_path} is missing, though there are arrivals; {REBUILD}",)


def _stamp(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _missing(service: Service) -> list[str]:
    return [OPTIONAL[service]] if service in OPTIONAL else []


def read_status(settings: Settings) -> Status:
    """Read the status of a stack, which may be down. Raises StackError."""
    with ThreadPoolExecutor() as threads:
        looking = {service: threads.submit(check, settings, service) for service in services_of(settings)}
        watching = threads.submit(read_watching, settings)
        drift = threads.submit(read_drift, settings)
        issues = threads.submit(read_issues, settings)
        next_runs = threads.submit(read_next_runs, settings)
        run_issues = threads.submit(known_run_issues, settings)
        services = {service: health.result() for service, health in looking.items()}
    now = datetime.now(UTC)
    with as_stack_error():
        books, skipped = read_counts(settings), read_skipped(settings)
        return Status(
            settings,
            services,
            books,
            read_needs_attention(settings),
            watching.result(),
            skipped,
            read_alerts(settings),
            drift.result(),
            other_ports(settings),
            _glances(settings, books, now),
            next_runs.result(),
            run_issues.result(),
            (*issues.result(), *_missing_ledger(settings)),
            now,
        )


def _glances(settings: Settings, inboxes: Iterable[str], now: datetime) -> dict[str, InboxActivity]:
    """Return the glance of each inbox; the day begins at local midnight. Raises LedgerError."""
    midnight = midnight_before(now, get_localzone())
    if not settings.ledger_path.exists():
        return {name: InboxActivity() for name in inboxes}
    with Ledger.at_one_moment(settings.ledger_path) as ledger:
        return {name: activity_of(ledger, name, midnight) for name in inboxes}
