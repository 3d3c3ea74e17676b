"""Print the results of `just check`: each file as soon as it is checked, or all as JSON for scripts."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from flows.rules import mistakes_in, rules_of
from sensors.checks import CheckedFile, check_files, described, rules_of_inbox, table_of
from sensors.config.admission import Admission, admit
from sensors.config.inboxes import EmptyFiles, Inbox, InboxesError, read_inboxes
from sensors.config.settings import Settings
from sensors.files.permissions import make_shared_folder
from sensors.inbox.intake import EMPTY
from sensors.runtime.text import counted, readable
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.terminal import open_console, plain

# Check files for `just check` against an inbox's rules and a table, and report all mistakes of the call together.

_RULES = TypeAdapter(dict[str, Any])
_RULES_BY_NAME = TypeAdapter(dict[str, dict[str, Any]])
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
    rules: str | None = None
    """A file of rules, in place of those of the inbox."""


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
    by_name: Mapping[str, Mapping[str, Any] | None] = {}
    rules = rules_of_inbox(inbox)
    try:
        if options.rules is not None:
            rules, by_name = _written_rules(options.rules)
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
        CheckedFile(file, Path(file).name, _shown(file), out, by_name.get(Path(file).name, rules))
        for file, out in zip(options.files, outs, strict=True)
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


def _written_rules(path: str) -> tuple[Mapping[str, Any] | None, Mapping[str, Mapping[str, Any]]]:
    """Return the rules of a JSON or YAML file: those of all files, and those of single ones by their names.

    The latter are under `files`. Raises StackError with all mistakes.
    """
    try:
        written = _RULES.validate_python(yaml.safe_load(Path(path).read_text("utf-8")))
        by_name = _RULES_BY_NAME.validate_python(written.pop("files", {}))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = "expected rules as JSON or YAML" if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise StackError(f"--rules: {readable(path)}: {why:.200}") from None
    mistakes: list[str] = []
    for name, rules in [("", written), *by_name.items()]:
        try:
            rules_of(rules)
        except ValidationError as error:
            place = f"files.{name}." if name else ""
            mistakes += [
                f"--rules: {place}{'.'.join(map(str, one.place))}: {one.message}" for one in mistakes_in(error)
            ]
    if mistakes:
        raise StackError(*mistakes)
    return written or None, by_name


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
        "quarantined": 0,
        "first_rows": [],
        "excerpt": [],
    }


def _shown(file: str) -> str:
    """Return a path that fits into JSON: bytes that are not UTF-8 are escaped."""
    return file.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


FEW = 10
"""Up to this many files are shown with all details, more files only with their results."""
ALL_LOAD, SOME_REJECTED, USAGE = 0, 1, 2
_DOCUMENT = ("file", "outcome", "reason", "format", "columns", "rows", "quarantined")
_LONGEST_VALUE = 40


def show_check(options: CheckOptions, *, as_json: bool) -> int:
    """Print whether files would load; return the exit status, 2 for wrong arguments."""
    found: list[Mapping[str, Any]] = []
    console = open_console()
    try:
        for one in check(options):
            found.append(one)
            if not as_json:
                for part in _parts(one, is_short=len(options.files) > FEW):
                    console.print(part, soft_wrap=isinstance(part, Text))
    except StackError as error:
        for line in error.lines:
            print(plain(line), file=sys.stderr)
        return USAGE
    rejected = sum(one["outcome"] != "loads" for one in found)
    if as_json:
        print(json.dumps([{key: one[key] for key in _DOCUMENT} for one in found]))
    elif len(found) > 1:
        console.print(plain(f"{len(found):,} files: {len(found) - rejected:,} load, {rejected:,} rejected", "bold"))
    return SOME_REJECTED if rejected else ALL_LOAD


def _parts(one: Mapping[str, Any], *, is_short: bool) -> Iterator[RenderableType]:
    """Yield the printed parts of one file's result."""
    yield _verdict(one)
    if is_short:
        return
    if one["format"]:
        yield plain(f"  {described(one['format'])}")
    if one["excerpt"]:
        yield from _excerpt(one["excerpt"])
    if one["columns"]:
        yield Padding(_columns(one["columns"]), (0, 0, 0, 2))
    if one["first_rows"]:
        yield Text("")
        yield Padding(_rows(one), (0, 0, 0, 2))
    yield Text("")


def _verdict(one: Mapping[str, Any]) -> Text:
    shown = plain(one["file"], "bold")
    if one["outcome"] == "loads":
        rows = one["rows"]
        aside = f", {counted(one['quarantined'], 'row')} put aside" if one["quarantined"] else ""
        return shown.append_text(plain(f": loads, {counted(rows, 'row')}{aside}", "green"))
    return shown.append_text(plain(": rejected: ", "red")).append_text(plain(one["reason"]))


def _excerpt(lines: Iterable[Mapping[str, Any]]) -> Iterator[Text]:
    """Yield the lines with their numbers, and carets below the marked text."""
    shown = list(lines)
    width = max(len(f"{line['number']:,}") for line in shown)
    for line in shown:
        is_bad = line["is_at_fault"]
        gutter = f"  {'>' if is_bad else ' '} {line['number']:>{width},} | "
        before = plain(line["before"])
        marked = plain(line["marked"], "bold red" if is_bad else "")
        indent = len(gutter) + before.cell_len
        text = plain(gutter, "red" if is_bad else "dim").append_text(before).append_text(marked)
        yield text.append_text(plain(line["after"]))
        if line["marked"]:
            yield plain(" " * indent + "^" * max(1, marked.cell_len), "red")


def _columns(columns: Iterable[Mapping[str, Any]]) -> Table:
    shown = Table("column", "in the file", "in the table", "", box=None)
    for one in columns:
        there = "" if one["table_type"] is None else f"{one['table_name']} {one['table_type']}"
        note = "new" if one["is_new"] else ""
        shown.add_row(*map(_cell, [one["name"], one["type"] or "no value shows it", there, note]))
    return shown


def _rows(one: Mapping[str, Any]) -> Table:
    rows = one["first_rows"]
    names = [column["name"] for column in one["columns"]][: len(rows[0])]
    shown = Table(*(Column(_cell(name)) for name in names), box=None)
    for row in rows:
        shown.add_row(*(Text("null", "dim") if value is None else _cell(value) for value in row))
    return shown


def _cell(value: str) -> Text:
    return plain(value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}...")
