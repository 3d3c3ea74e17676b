"""Print the results of `just check`: each file as soon as it is checked, or all as JSON for scripts."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from sensors.checks.command import CheckOptions, check
from sensors.checks.engine import described
from sensors.cli.console import open_console, plain
from sensors.stack.errors import StackError

FEW = 10
"""Up to this many files are shown with all details, more files only with their results."""
ALL_LOAD, SOME_REJECTED, USAGE = 0, 1, 2
_DOCUMENT = ("file", "outcome", "reason", "format", "columns", "rows")
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
        return shown.append_text(plain(f": loads, {rows:,} {'row' if rows == 1 else 'rows'}", "green"))
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
