"""Print the latest arrivals as a table or as JSON (`just history`)."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger, arrivals, files
from sensors.ledger.files import inboxes_of
from sensors.ledger.states import ArrivalState
from sensors.reports.arrivals import ArrivalJourney, ArrivalSummary, arrival_journey, latest, latest_failed, run_url
from sensors.reports.files import journey_of
from sensors.runtime.text import duration, number, readable, table_time
from sensors.stack.errors import StackError
from sensors.stack.health import LogLine, RunLogError, read_run_log
from sensors.stack.terminal import open_console, plain

NARROW = 130
"""On a terminal with fewer columns than this, the table has only the columns needed to identify an arrival."""
STYLES = {ArrivalState.LOADED: "green", ArrivalState.FAILED: "red", ArrivalState.SKIPPED: "dim"}


def show_history(settings: Settings, inbox: str | None, *, limit: int, failed: bool, as_json: bool) -> None:
    """Print the latest arrivals, the newest first. Raises StackError, InboxesError, LedgerError."""
    found = read_history(settings, inbox, limit=limit, failed=failed)
    console = open_console()
    if as_json:
        print(json.dumps({"arrivals": [summary_json(one) for one in found]}))
    elif found:
        console.print(history_table(found, console.width))
        if console.width < NARROW and any(one.reason for one in found):
            console.print("a wider terminal has the reasons too; `just show ARRIVAL` has all of one")
    else:
        which = "failed arrivals" if failed else "arrivals"
        console.print(f"no {which} yet{f' in inbox {inbox}' if inbox else ''}; `just drop FILE` makes one")


def read_history(settings: Settings, inbox: str | None, *, limit: int, failed: bool) -> list[ArrivalSummary]:
    """Return the latest arrivals, the newest first; works while the sensor is down.

    Raises StackError for an unknown inbox, InboxesError, LedgerError.
    """
    if not settings.ledger_path.exists():
        _check_inbox(settings, inbox, ())
        return []
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        _check_inbox(settings, inbox, inboxes_of(ledger))
        return (latest_failed if failed else latest)(ledger, limit, inbox=inbox)


def _check_inbox(settings: Settings, inbox: str | None, in_ledger: Iterable[str]) -> None:
    if inbox is None:
        return
    known = {*in_ledger, *(one.name for one in read_inboxes(settings.inboxes_file, settings.inbox_dir))}
    if inbox not in known:
        raise StackError(f"there is no inbox {readable(inbox)}; there is {', '.join(sorted(known))}")


def history_table(found: Iterable[ArrivalSummary], width: int) -> Table:
    """Return arrivals as a table, with fewer columns if `width` is less than `NARROW`."""
    is_narrow = width < NARROW
    table = Table(box=None, pad_edge=False, collapse_padding=is_narrow)
    # An id that is split over two lines cannot be copied.
    table.add_column("taken", no_wrap=not is_narrow)
    table.add_column("arrival", no_wrap=True, overflow="fold")
    for name in ("what", *(() if is_narrow else ("inbox",)), "state"):
        table.add_column(name, overflow="fold")
    for name in ("rows", "to end") if is_narrow else ("files", "rows", "to run", "to end", "attempts"):
        table.add_column(name, justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column("reason", overflow="fold")
    for one in found:
        table.add_row(*(_narrow_row(one) if is_narrow else _row(one)))
    return table


def _narrow_row(one: ArrivalSummary) -> Iterator[RenderableType]:
    yield from (table_time(one.created_at), plain(one.id), plain(one.title), _state(one), _rows(one))
    yield duration(one.seconds_to_end)


def _row(one: ArrivalSummary) -> Iterator[RenderableType]:
    yield from (table_time(one.created_at), plain(one.id), plain(one.title), plain(one.inbox), _state(one))
    yield f"{one.files:,}" + (f" ({one.bad:,} bad)" if one.bad else "")
    yield from (_rows(one), duration(one.seconds_to_run), duration(one.seconds_to_end), str(one.attempt))
    yield plain(one.reason or "")


def _state(one: ArrivalSummary) -> Text:
    return plain(one.state, STYLES.get(one.state, "cyan"))


def _rows(one: ArrivalSummary) -> str:
    return number(one.rows)


def summary_json(one: ArrivalSummary) -> dict[str, Any]:
    """Return an arrival as a JSON object: moments in UTC, durations in seconds, sizes in bytes."""
    fields = {name: json_value(value) for name, value in dataclasses.asdict(one).items()}
    spans = {"seconds_to_run": one.seconds_to_run, "seconds_to_end": one.seconds_to_end}
    return {**fields, "title": one.title, **spans}


def json_value(value: Any) -> Any:
    """Return a moment as ISO 8601 text, a path as text, and any other value unchanged."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


# Find and print one arrival: its steps, files, announcements, run and the end of the run's log (`just show`).
#
# An arrival is named by its id, by a unique beginning of the id, or by the name of one of its files.

LISTED = 5
"""How many arrivals are listed if several ids have the given beginning."""


def find_arrival(ledger: Ledger, wanted: str) -> str:
    """Return the id of the arrival that `wanted` names; for a file's name, the latest arrival with such a file.

    Raises StackError if there is none, or if several ids begin with `wanted`.
    """
    if arrivals.by_id(ledger, wanted) is not None:
        return wanted
    if by_name := files.arrival_of(ledger, wanted):
        return by_name
    begun = arrivals.ids_beginning(ledger, wanted, LISTED + 1)
    if len(begun) == 1 and wanted:
        return begun[0]
    raise StackError(_several(wanted, begun) if begun and wanted else _without_arrival(ledger, wanted))


def _several(wanted: str, begun: list[str]) -> str:
    more = " and more" if len(begun) > LISTED else ""
    return f"several arrivals begin with {readable(wanted)}: {', '.join(begun[:LISTED])}{more}; give more of the id"


def _without_arrival(ledger: Ledger, wanted: str) -> str:
    """Return a message with the state of a file that is in no arrival, or that there is no such file."""
    file = journey_of(ledger, wanted)
    if file is None:
        return f"there is no arrival {readable(wanted)}, and no file of that name; `just history` lists the latest"
    why = f": {readable(file.reason)}" if file.reason else ""
    return f"{readable(wanted)} is in no arrival: it is {file.state} in inbox {file.inbox}{why}"


FILES = 50
LOG_LINES = 20
WHOLE_LINES = 3
"""A log record of more lines than this is shortened."""


@dataclass(frozen=True)
class ArrivalPage:
    """Everything that is shown of one arrival."""

    journey: ArrivalJourney
    run_url: str | None = None
    """The run's page in Prefect's UI."""
    log: tuple[LogLine, ...] = ()
    """The end of the run's log."""
    no_log: str = ""
    """Why there is no log."""


def show_arrival(settings: Settings, wanted: str, *, as_json: bool) -> None:
    """Print one arrival. Raises StackError, LedgerError."""
    page = read_arrival(settings, wanted)
    if as_json:
        print(json.dumps(page_json(page)))
    else:
        console = open_console()
        for part in page_parts(page):
            console.print(part, soft_wrap=isinstance(part, Text))


def read_arrival(settings: Settings, wanted: str) -> ArrivalPage:
    """Read an arrival and its run's log, also while the stack is down. Raises StackError, LedgerError."""
    if not settings.ledger_path.exists():
        raise StackError(f"nothing has been dropped yet: there is no ledger at {settings.ledger_path}")
    with Ledger.at_one_moment(settings.ledger_path) as ledger:
        found = find_arrival(ledger, wanted)
        journey = arrival_journey(ledger, found, FILES)
    if journey is None:  # retention has just deleted it
        raise StackError(f"there is no arrival {found} any more; `just history` lists the latest")
    run_id = journey.arrival.run_id
    if run_id is None:
        return ArrivalPage(journey, no_log="it has no run")
    url = run_url(settings.prefect_page, run_id)
    try:
        log = read_run_log(settings, run_id, LOG_LINES)
    except RunLogError as error:
        return ArrivalPage(journey, url, no_log=str(error))
    return ArrivalPage(journey, url, log, "" if log else "Prefect has none of it")


def page_parts(page: ArrivalPage) -> list[RenderableType]:
    """Return the parts to print, in their order."""
    arrival = page.journey.arrival
    title = plain(f"{arrival.title}  ", "bold")
    title.append_text(plain(f"{arrival.id}  "))
    title.append_text(plain(arrival.state, STYLES.get(arrival.state, "cyan")))
    parts: list[RenderableType] = [title]
    if arrival.reason:
        parts.append(plain(arrival.reason, "yellow"))
    parts += [plain(str(page.journey.folder), "dim"), "", _steps(page.journey), "", _files(page.journey)]
    if page.journey.announcements:
        parts += ["", _announcements(page.journey)]
    parts.append("")
    if page.run_url:
        parts.append(plain(f"run {arrival.run_name or ''}: {page.run_url}"))
    return [*parts, *_log(page)]


def _steps(journey: ArrivalJourney) -> Table:
    table = Table("step", "when", "after", box=None, pad_edge=False)
    table.columns[-1].justify = "right"
    before: datetime | None = None
    for step, at in journey.steps():
        after = None if at is None or before is None else (at - before).total_seconds()
        table.add_row(step, table_time(at) or "not yet", duration(after))
        before = at or before
    return table


def _files(journey: ArrivalJourney) -> Group:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("state")
    for name in ("bytes", "rows"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for file in journey.files:
        table.add_row(
            plain(file.name), file.state, number(file.size), number(file.rows), plain(file.reason or "", "yellow")
        )
    more = journey.arrival.files - len(journey.files)
    return Group(table, f"and {more:,} files more; those that need attention are above") if more > 0 else Group(table)


def _announcements(journey: ArrivalJourney) -> Table:
    table = Table("announced", "when", "server had it after", "led to", box=None, pad_edge=False)
    for one in journey.announcements:
        confirmed = None if one.confirmed_at is None else (one.confirmed_at - one.intended_at).total_seconds()
        led_to = f"run {one.run_id}" if one.run_id else one.failure or "no run"
        table.add_row(
            str(one.attempt), table_time(one.intended_at), duration(confirmed) or "not confirmed", plain(led_to)
        )
    return table


def _log(page: ArrivalPage) -> list[Text]:
    if page.no_log:
        return [plain(f"the run's log: {page.no_log}", "dim")]
    return [
        plain(f"  {table_time(one.at)} {one.level:<7} {line}", "" if one.level == "INFO" else "yellow")
        for one in page.log
        for line in shortened(one.message.splitlines())
    ]


def shortened(lines: list[str]) -> list[str]:
    """Return the lines of one log record; of a long one, such as a traceback, only the first and the last line.

    >>> shortened(["Engine execution exited", "Traceback (most recent call last):", "...", "...", "FailedRun: 1 of 2"])
    ['Engine execution exited', '    (3 lines more, on the page of the run)', 'FailedRun: 1 of 2']
    """
    if len(lines) <= WHOLE_LINES:
        return lines
    return [lines[0], f"    ({len(lines) - 2} lines more, on the page of the run)", lines[-1]]


def page_json(page: ArrivalPage) -> dict[str, Any]:
    """Return the JSON document of `show --json`; moments are in UTC."""
    journey = page.journey
    return {
        "arrival": summary_json(journey.arrival),
        "folder": str(journey.folder),
        "steps": [{"step": step, "at": json_value(at)} for step, at in journey.steps()],
        "files": [_plain_json(file) for file in journey.files],
        "announcements": [_plain_json(one) for one in journey.announcements],
        "run_url": page.run_url,
        "log": [_plain_json(line) for line in page.log],
        "no_log": page.no_log or None,
    }


def _plain_json(one: Any) -> dict[str, Any]:
    return {name: json_value(value) for name, value in dataclasses.asdict(one).items()}
