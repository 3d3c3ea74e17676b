"""The status: whether all is healthy, what became of the files, and what needs a person."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensors.books import Books, read_books, read_skipped
from sensors.inbox import InboxesError
from sensors.ledger import LedgerError
from sensors.ledger.states import FileState
from sensors.settings import Settings
from sensors.stack.alerts import Alerts, read_alerts
from sensors.stack.configuration import checked_settings
from sensors.stack.drifted import read_drift
from sensors.stack.errors import StackError
from sensors.stack.health import NOT_RUNNING, Health, check, read_watching
from sensors.stack.services import OPTIONAL, Service, newest_log, services_of
from sensors.stack.state_folder import other_ports
from sensors.trouble import Trouble, read_trouble


@dataclasses.dataclass(frozen=True)
class Status:
    """One look at a stack; counts are of files."""

    settings: Settings
    services: dict[Service, Health]
    inboxes: dict[str, Books]
    trouble: Trouble = dataclasses.field(default_factory=Trouble)
    watching: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """How each inbox is watched; empty while the sensor is down."""
    skipped: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """How many of the loaded files of an inbox were duplicates and therefore skipped."""
    alerts: Alerts = dataclasses.field(default_factory=Alerts)
    """What has not got through."""
    drift: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """How automations of ours were changed on the server, by their names."""
    other_ports: str | None = None
    """On which ports it runs, in words, where they are not those that were asked for."""

    @property
    def healthy(self) -> bool:
        """Whether every service does its work, those left out that a stack can do without."""
        return all(health.healthy for service, health in self.services.items() if service not in OPTIONAL)

    def as_json(self) -> dict[str, Any]:
        """Return what `status --json` prints."""
        return {
            "healthy": self.healthy,
            "inboxes": {name: books.model_dump() for name, books in self.inboxes.items()},
            "watching": self.watching,
            "skipped": self.skipped,
            "alerts": {"undelivered": self.alerts.undelivered},
            "drift": sorted(self.drift),
            "services": {name.value: dataclasses.asdict(health) for name, health in self.services.items()},
            "page": self.settings.page_url,
            "state_dir": str(self.settings.state_dir),
        }

    def needs_a_person(self) -> list[str]:
        """Return what somebody should look at, in lines, the most urgent first."""
        overdue = [f"inbox {name} is overdue since {at}" for name, at in self.trouble.overdue.items()]
        alerts = self.alerts.needs_a_person
        drifted = [
            f"automation {name} was changed on the server ({how}); `just plan` shows how, `just apply` puts it back"
            for name, how in self.drift.items()
        ]
        return [
            *self._broken_services(),
            *alerts,
            *overdue,
            *self._stalled_arrivals(),
            *drifted,
            *self._bad_files(),
        ]

    def _broken_services(self) -> list[str]:
        if not any(map(_runs, self.services.values())):
            if self.other_ports:
                return [f"the stack of {self.settings.state_dir} {self.other_ports}; set that in .env"]
            return ["the stack is not running; start it with `just up`"]
        return [
            "; ".join([f"{service}: {health.detail}", *_missing(service), f"see {newest_log(self.settings, service)}"])
            for service, health in self.services.items()
            if not health.healthy
        ]

    def _stalled_arrivals(self) -> list[str]:
        return [
            f"arrival {one.id} has no run after {one.attempt} announcements: {one.reason}"
            for one in self.trouble.arrivals
        ]

    def _bad_files(self) -> list[str]:
        """Return the latest files that were not loaded, each with its reason, and how many more there are."""
        told = [
            f"{file.state} in inbox {file.inbox}: {file.name}: {file.reason}"
            + (f"; `just retry {file.arrival_id}` tries it again" if file.state is FileState.FAILED else "")
            for file in self.trouble.files
        ]
        more = sum(books.rejected + books.failed for books in self.inboxes.values()) - len(told)
        failed = self.settings.failed_dir
        return [*told, f"and {more} files more; all of them are in {failed}"] if more > 0 else told


def _missing(service: Service) -> list[str]:
    return [OPTIONAL[service]] if service in OPTIONAL else []


def _runs(health: Health) -> bool:
    return health.detail != NOT_RUNNING


def show_status(*, as_json: bool) -> int:
    """Print the status and return the exit status: 0 if all is healthy, else 1. Raises StackError."""
    status = read_status(checked_settings())
    if as_json:
        print(json.dumps(status.as_json()))
    else:
        show(status, Console(highlight=False))
    return 0 if status.healthy else 1


def read_status(settings: Settings) -> Status:
    """Look at a stack now, also at one that is down; raises StackError."""
    with ThreadPoolExecutor() as threads:
        looking = {service: threads.submit(check, settings, service) for service in services_of(settings)}
        watching = threads.submit(read_watching, settings)
        drift = threads.submit(read_drift, settings)
        services = {service: health.result() for service, health in looking.items()}
    elsewhere = None if any(map(_runs, services.values())) else other_ports(settings)
    try:
        books, skipped = read_books(settings), read_skipped(settings)
        return Status(
            settings,
            services,
            books,
            read_trouble(settings),
            watching.result(),
            skipped,
            read_alerts(settings),
            drift.result(),
            elsewhere,
        )
    except (LedgerError, InboxesError) as error:
        raise StackError(*str(error).splitlines()) from error


def show(status: Status, console: Console) -> None:
    """Print the status for a person: first what needs one."""
    for line in status.needs_a_person():
        console.print(Text(f"! {line}", style="bold yellow"), soft_wrap=True)
    services = Table("service", "health", box=None, pad_edge=False)
    for service, health in status.services.items():
        services.add_row(service, Text("healthy", "green") if health.healthy else Text(health.detail, "red"))
    files = Table("inbox", box=None, pad_edge=False)
    for entry in Books.model_fields:
        files.add_column(entry.replace("_", " "), justify="right")
    files.add_column("of these skipped" if status.skipped else "", justify="right")
    files.add_column("watched by" if status.watching else "")
    for name, books in status.inboxes.items():
        counts = [str(count) for count in books.model_dump().values()]
        skipped = str(status.skipped[name]) if name in status.skipped else ""
        files.add_row(name, *counts, skipped, Text(status.watching.get(name, "")))
    console.print(services, "", files)
