"""Print the latest arrivals as a table or as JSON (`just history`)."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sensors.cli.console import local, open_console, plain, seconds
from sensors.config.admission import readable
from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.files import inboxes_of
from sensors.ledger.states import ArrivalState
from sensors.reports.arrivals import ArrivalSummary, latest, latest_failed
from sensors.stack.errors import StackError

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
    yield from (local(one.created_at), plain(one.id), plain(one.title), _state(one), _rows(one))
    yield seconds(one.seconds_to_end)


def _row(one: ArrivalSummary) -> Iterator[RenderableType]:
    yield from (local(one.created_at), plain(one.id), plain(one.title), plain(one.inbox), _state(one))
    yield f"{one.files:,}" + (f" ({one.bad:,} bad)" if one.bad else "")
    yield from (_rows(one), seconds(one.seconds_to_run), seconds(one.seconds_to_end), str(one.attempt))
    yield plain(one.reason or "")


def _state(one: ArrivalSummary) -> Text:
    return plain(one.state, STYLES.get(one.state, "cyan"))


def _rows(one: ArrivalSummary) -> str:
    return "" if one.rows is None else f"{one.rows:,}"


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
