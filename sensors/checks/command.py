"""Check files for `just check` against an inbox's rules and a table, and report all mistakes of the call together."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensors.checks.engine import CheckedFile, check_files, table_of
from sensors.config.admission import Admission, admit, readable
from sensors.config.inboxes import EmptyFiles, Inbox, InboxesError, read_inboxes
from sensors.config.settings import Settings
from sensors.files.permissions import make_shared_folder
from sensors.inbox.intake import EMPTY
from sensors.stack.configuration import checked_settings
from sensors.stack.errors import StackError

SUFFIX = ".parquet"
_LONGEST_NAME = 255
"""Limit of nearly all file systems, in bytes."""


@dataclass(frozen=True)
class CheckOptions:
    """Arguments of the command."""

    files: tuple[str, ...]
    inbox: str | None = None
    table: str | None = None
    out: str | None = None


def check(options: CheckOptions) -> Iterator[dict[str, Any]]:
    """Yield the result for each file, in order. Raises StackError with all mistakes of the call."""
    mistakes: list[str] = []
    inbox, table = None, options.table
    try:
        settings = checked_settings()
        if options.inbox is not None:
            inbox = _inbox(settings, options.inbox)
            table = table or table_of(inbox)
    except StackError as error:
        mistakes += error.lines
    mistakes += filter(None, map(_why_no_file, options.files))
    outs: Sequence[str | None] = [None] * len(options.files)
    if options.out is not None:
        outs = [str(Path(options.out, f"{Path(file).name}{SUFFIX}")) for file in options.files]
        mistakes += _mistakes_of_out(options.out, options.files, outs)
    if mistakes:
        raise StackError(*dict.fromkeys([*mistakes, *_mistakes_of_table(table)]))
    if options.out is not None:
        _make_room(Path(options.out), outs)
    reasons = [_why_not_taken(file, inbox) for file in options.files]
    files = [
        CheckedFile(file, Path(file).name, _shown(file), out) for file, out in zip(options.files, outs, strict=True)
    ]
    answers = check_files([file for file, reason in zip(files, reasons, strict=True) if reason is None], table)
    for file, reason in zip(files, reasons, strict=True):
        yield next(answers) if reason is None else _rejected(file.shown, reason)


def _inbox(settings: Settings, name: str) -> Inbox:
    try:
        inboxes = {inbox.name: inbox for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)}
    except InboxesError as error:
        raise StackError(*str(error).splitlines()) from error
    if name not in inboxes:
        raise StackError(f"--inbox: there is no inbox {readable(name)!r}; there are: {', '.join(inboxes)}")
    return inboxes[name]


def _why_no_file(file: str) -> str | None:
    """Return what is wrong with an argument that should be a readable file; a FIFO is not opened."""
    try:
        mode = Path(file).stat().st_mode
    except (OSError, ValueError) as error:
        return f"{readable(file)}: cannot be read: {error.strerror if isinstance(error, OSError) else error}"
    if stat.S_ISDIR(mode):
        return f"{readable(file)}: expected a file, got a folder; name the files in it"
    if not stat.S_ISREG(mode):
        return f"{readable(file)}: expected a regular file"
    return None if os.access(file, os.R_OK) else f"{readable(file)}: cannot be read: Permission denied"


def _mistakes_of_table(table: str | None) -> tuple[str, ...]:
    try:
        for _ in check_files([], table):
            pass
    except StackError as error:
        return error.lines
    return ()


def _mistakes_of_out(out: str, files: Sequence[str], outs: Sequence[str | None]) -> Iterator[str]:
    folder = Path(out)
    try:
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    except (OSError, ValueError) as error:
        yield f"--out: {readable(out)} cannot be used: {error}"
        return
    if not there.is_dir():
        yield f"--out: expected a folder, and {readable(str(there))} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"--out: no file can be written in {readable(str(there))}; choose another folder"
    inputs = {_identity(file): file for file in files}
    of: dict[str, str] = {}
    for file, target in zip(files, outs, strict=True):
        name = Path(target or "").name
        if len(os.fsencode(name)) > _LONGEST_NAME:
            yield f"--out: the name {readable(name):.60}... is too long for a file; check a copy under another name"
        elif (other := inputs.get(_identity(target or ""))) is not None:
            yield f"--out: the rows of {readable(file)} would replace {readable(other)}; choose another folder"
        elif name in of:
            yield f"--out: {readable(of[name])} and {readable(file)} would both be written to {readable(name)}"
        of.setdefault(name, file)


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = Path(file).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _make_room(folder: Path, outs: Sequence[str | None]) -> None:
    """Make the folder, and remove the files that an earlier check has written there for these files."""
    try:
        make_shared_folder(folder.absolute())
        for out in filter(None, outs):
            Path(out).unlink(missing_ok=True)
    except OSError as error:
        raise StackError(f"--out: {readable(str(error.filename or folder))}: {error.strerror}") from error


def _why_not_taken(file: str, inbox: Inbox | None) -> str | None:
    """Return why an inbox would not take a file; None if it would, or if there is no inbox."""
    if inbox is None:
        return None
    path = Path(file)
    status = path.stat()
    ruling = admit(path.name, status, inbox)
    if ruling.admission is Admission.LEFT_ALONE:
        return f"inbox {inbox.name!r} leaves it alone: {ruling.reason}"
    if ruling.admission is Admission.REJECTED:
        return ruling.reason
    if not status.st_size and inbox.empty is EmptyFiles.WAIT:
        return f"{EMPTY}; inbox {inbox.name!r} waits for its content"
    return None if status.st_size or inbox.empty is EmptyFiles.TAKE else EMPTY


def _rejected(file: str, reason: str) -> dict[str, Any]:
    return {
        "file": file,
        "outcome": "rejected",
        "reason": reason,
        "format": None,
        "columns": [],
        "rows": 0,
        "first_rows": [],
        "excerpt": [],
    }


def _shown(file: str) -> str:
    """Return a path that fits into JSON: bytes that are not UTF-8 are escaped."""
    return file.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
