"""Explain why a file was rejected: check it again, in a process with limits, and show the line at fault."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import fstat
from threading import BoundedSemaphore
from typing import Any

from fastapi import HTTPException

from sensors.checks.engine import CheckedFile, ProcessLimits, check_files, described, table_of
from sensors.config.admission import readable
from sensors.config.inboxes import Inbox
from sensors.reports.files import KnownFile
from sensors.stack.errors import StackError
from sensors.web.upload_routes import open_into

SECONDS = 30.0
LARGEST = 256 * 2**20
"""The largest file in bytes that the page checks; `just check` has no such limit."""
AT_ONCE = 2
"""How many checks run at a time; each uses a core."""
_WAIT_SECONDS = 20.0
_running = BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class ShownLine:
    """A line of a file or a part of it, in three pieces."""

    number: int
    before: str
    marked: str
    after: str
    is_at_fault: bool


@dataclass(frozen=True)
class FileExplanation:
    """The result of a check; unprintable characters in its texts are escaped."""

    table: str | None = None
    """The table that the file was checked against; None for a new one."""
    loads: bool = False
    rows: int = 0
    reason: str = ""
    format: str = ""
    lines: tuple[ShownLine, ...] = ()
    columns: tuple[tuple[str, str, str], ...] = ()
    """Name, type in the file, and column of the table, for each column."""
    names: tuple[str, ...] = ()
    first_rows: tuple[tuple[str | None, ...], ...] = ()
    trouble: str = ""
    """Why the file could not be checked, or empty."""


def why(file: KnownFile, inboxes: Sequence[Inbox]) -> FileExplanation:
    """Check a file against the table of its inbox.

    Raises HTTPException: 404 if the file is gone, 503 if other checks do not end in time.
    """
    inbox = next((one for one in inboxes if one.name == file.inbox), None)
    with ExitStack() as held:
        descriptor = open_into(held, file)
        if (size := fstat(descriptor).st_size) > LARGEST:
            return FileExplanation(
                trouble=f"it has {size:,} bytes, and at most {LARGEST:,} are checked here; use `just check`"
            )
        name = file.name.rpartition("/")[2]
        asked = CheckedFile(f"/dev/fd/{descriptor}", name, name)
        try:
            table = table_of(inbox) if inbox else None
            with _turn():
                (found,) = check_files([asked], table, ProcessLimits(SECONDS, (descriptor,)))
        except StackError as error:
            return FileExplanation(trouble=readable("; ".join(error.lines)))
    return _shown(found, table)


@contextmanager
def _turn() -> Generator[None]:
    if not _running.acquire(timeout=_WAIT_SECONDS):
        raise HTTPException(503, "other files are being checked; try again in a minute", {"Retry-After": "60"})
    try:
        yield
    finally:
        _running.release()


def _shown(found: Mapping[str, Any], table: str | None) -> FileExplanation:
    return FileExplanation(
        table=table,
        loads=found["outcome"] == "loads",
        rows=found["rows"],
        reason=readable(found["reason"] or ""),
        format=readable(described(found["format"])) if found["format"] else "",
        lines=tuple(_line(one) for one in found["excerpt"]),
        columns=tuple(_column(one) for one in found["columns"]),
        names=tuple(readable(one["name"]) for one in found["columns"])[: len(next(iter(found["first_rows"]), ()))],
        first_rows=tuple(
            tuple(None if value is None else readable(value) for value in row) for row in found["first_rows"]
        ),
    )


def _line(one: Mapping[str, Any]) -> ShownLine:
    before, marked, after = (readable(one[key].expandtabs(8)) for key in ("before", "marked", "after"))
    return ShownLine(one["number"], before, marked, after, one["is_at_fault"])


def _column(one: Mapping[str, Any]) -> tuple[str, str, str]:
    there = f"{one['table_name']} {one['table_type']}" if one["table_type"] else ""
    new = ", a new column" if one["is_new"] and there else ""
    return readable(one["name"]), readable(one["type"] or "no value shows it"), readable(f"{there}{new}")
