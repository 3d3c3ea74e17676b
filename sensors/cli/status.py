"""Print the stack's status: issues that need attention, services, inboxes and the next runs (`just status`).

It is printed once, as JSON for scripts, or refreshed in place.
"""

import json
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sensors.reports.arrivals import InboxActivity, InboxCounts
from sensors.runtime.text import age, ago, table_time
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.status import SCHEDULED, NextRun, Status, read_status
from sensors.stack.terminal import open_console, plain

_COUNTS = tuple(InboxCounts.model_fields)


def needs_a_person(status: Status) -> list[Text]:
    """Return the issues that need attention as lines, the most urgent first."""
    return [plain(f"! {line}", "bold yellow") for line in status.needs_a_person()]


def tables(status: Status) -> Group:
    """Return the services, the inboxes and the next runs as tables."""
    parts: list[RenderableType] = [_services(status), "", _books(status), "", _glances(status)]
    if status.next_runs:
        parts += ["", _next_runs(status)]
    return Group(*parts)


def _services(status: Status) -> Table:
    table = Table("service", "health", box=None, pad_edge=False)
    for service, health in status.services.items():
        table.add_row(service, Text("healthy", "green") if health.healthy else plain(health.detail, "red"))
    return table


def _books(status: Status) -> Table:
    table = Table("inbox", box=None, pad_edge=False)
    for entry in _COUNTS:
        table.add_column(entry.replace("_", " "), justify="right")
    if status.skipped:
        table.add_column("of these skipped", justify="right")
    for name, books in status.inboxes.items():
        counts = [_count(entry, count) for entry, count in books.model_dump().items()]
        table.add_row(name, *counts, *([str(status.skipped.get(name, ""))] if status.skipped else []))
    return table


def _count(entry: str, count: int) -> Text:
    is_bad = count and entry in {"rejected", "failed"}
    return Text(f"{count:,}", "yellow" if is_bad else "")


def _glances(status: Status) -> Table:
    """Return the table of each inbox's details; one table together with the counts is too wide for most terminals."""
    table = Table("inbox", box=None, pad_edge=False)
    table.add_column("loaded today", justify="right")
    table.add_column("oldest waiting", justify="right")
    table.add_column("last file", overflow="fold")
    table.add_column("watched by" if status.watching else "", overflow="fold")
    for name in status.inboxes:
        glance = status.glances.get(name, InboxActivity())
        table.add_row(
            name,
            f"{glance.files_today:,}",
            ago(glance.oldest_waiting, status.at).removesuffix(" ago"),
            _last_file(glance, status),
            plain(status.watching.get(name, "")),
        )
    return table


def _last_file(glance: InboxActivity, status: Status) -> Text:
    """Return the age and name of the latest file; the age comes first, so that a long name does not hide it."""
    return Text() if glance.last_name is None else plain(f"{ago(glance.last_seen, status.at)}: {glance.last_name}")


def _next_runs(status: Status) -> Table:
    table = Table("next run", "when", "", box=None, pad_edge=False)
    for one in status.next_runs:
        table.add_row(plain(one.deployment), table_time(one.at) or one.state, _until(one, status))
    return table


def _until(one: NextRun, status: Status) -> Text:
    if one.at is None:
        return Text("its schedules are paused on Prefect's page", "yellow")
    seconds = (one.at - status.at).total_seconds()
    when = f"in {age(seconds)}" if seconds >= 0 else f"due for {age(-seconds)}"
    is_usual = one.state == SCHEDULED
    return Text(when) if is_usual else plain(f"{when}, {one.state}", "yellow")


REFRESH_SECONDS = 2.0


def show_status(*, as_json: bool, watch: bool, services_only: bool = False) -> int:
    """Print the status, or with `watch` refresh it until Ctrl-C; return the exit status.

    With `services_only` the exit status is 0 if every service is healthy, else 1: a container in which a run failed is
    healthy. Raises StackError.
    """
    settings = checked_settings()
    console = open_console()
    if watch:
        _check_that_somebody_watches(console, as_json=as_json)
        return watch_status(lambda: read_status(settings), console)
    status = read_status(settings)
    if as_json:
        print(json.dumps(status.as_json()))
    else:
        print_status(status, console)
    return int(not status.healthy) if services_only else status.exit_status


def print_status(status: Status, console: Console) -> None:
    """Print the status once; the terminal itself wraps the issues, so that a command in a line can be copied."""
    for line in needs_a_person(status):
        console.print(line, soft_wrap=True)
    console.print(tables(status))


def watch_status(look: Callable[[], Status], console: Console, pause: Callable[[float], object] = time.sleep) -> int:
    """Read the status every `REFRESH_SECONDS` and show it in place of the previous one, until Ctrl-C.

    Returns the exit status of the last one. Raises the errors of `look`.
    """
    status = look()
    try:
        with Live(_whole(status), console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                pause(REFRESH_SECONDS)
                status = look()
                live.update(_whole(status), refresh=True)
    except KeyboardInterrupt:
        return status.exit_status


def _whole(status: Status) -> Group:
    return Group(*needs_a_person(status), tables(status))


def _check_that_somebody_watches(console: Console, *, as_json: bool) -> None:
    if as_json:
        raise StackError("--watch draws on a terminal and --json is for scripts: leave one of them out")
    if not console.is_terminal:
        raise StackError("--watch needs a terminal to draw on, the output goes elsewhere; leave it out, or use --json")
