"""The status as tables: first what needs a person, then the services, the inboxes and the next runs."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sensors.cli.console import ago, local, span
from sensors.cli.harmless import plain
from sensors.reports.inbox_glance import InboxGlance
from sensors.reports.inboxes import Books
from sensors.stack.next_runs import SCHEDULED, NextRun
from sensors.stack.status import Status

_COUNTS = tuple(Books.model_fields)


def needs_a_person(status: Status) -> list[Text]:
    """Return what somebody should look at, in lines, the most urgent first."""
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
    """Return what the books do not say: a table of its own, as both in one are too wide for most terminals."""
    table = Table("inbox", box=None, pad_edge=False)
    table.add_column("loaded today", justify="right")
    table.add_column("oldest waiting", justify="right")
    table.add_column("last file", overflow="fold")
    table.add_column("watched by" if status.watching else "", overflow="fold")
    for name in status.inboxes:
        glance = status.glances.get(name, InboxGlance())
        table.add_row(
            name,
            f"{glance.files_today:,}",
            ago(glance.oldest_waiting, status.at).removesuffix(" ago"),
            _last_file(glance, status),
            plain(status.watching.get(name, "")),
        )
    return table


def _last_file(glance: InboxGlance, status: Status) -> Text:
    """Return the file that came last; when it came stands first, so that a long name does not hide it."""
    return Text() if glance.last_name is None else plain(f"{ago(glance.last_seen, status.at)}: {glance.last_name}")


def _next_runs(status: Status) -> Table:
    table = Table("next run", "when", "", box=None, pad_edge=False)
    for one in status.next_runs:
        table.add_row(plain(one.deployment), local(one.at) or one.state, _until(one, status))
    return table


def _until(one: NextRun, status: Status) -> Text:
    if one.at is None:
        return Text("its schedules are paused on Prefect's page", "yellow")
    seconds = (one.at - status.at).total_seconds()
    when = f"in {span(seconds)}" if seconds >= 0 else f"due for {span(-seconds)}"
    is_usual = one.state == SCHEDULED
    return Text(when) if is_usual else plain(f"{when}, {one.state}", "yellow")
