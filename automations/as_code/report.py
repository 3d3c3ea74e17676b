"""Print a plan or an apply on the terminal: differences in the style of terraform, then a table of everything."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from automations.as_code.diff import Absent, AutomationChange, ChangeOutcome, Changes, Difference

_SIGNS = {ChangeOutcome.CREATED: "+", ChangeOutcome.UPDATED: "~", ChangeOutcome.DELETED: "-"}
_STYLES = {"+": "green", "~": "yellow", "-": "red"}


def show(changes: Changes, console: Console) -> None:
    """Print the changes; their content is text and never interpreted as markup."""
    for change in changes.changes:
        for line in lines_of(change, changes.word(change.outcome)):
            text = _plain(line)
            text.stylize(_STYLES.get(line.lstrip()[:1], ""))
            console.print(text, soft_wrap=True)
    console.print(_table(changes))
    console.print(_summary(changes))


def lines_of(change: AutomationChange, word: str) -> Iterator[str]:
    """Yield the lines about one written object: the action, its reason, and the differences."""
    if not change.outcome.is_write:
        return
    yield f"{_SIGNS[change.outcome]} {change.kind} {change.name}: {word}" + (f" ({change.note})" if change.note else "")
    for difference in change.differences:
        yield from (f"    {line}" for line in _lines(difference))
    yield ""


def _lines(difference: Difference) -> Iterator[str]:
    field, old, new = difference.field, difference.old, difference.new
    if difference.is_secret:
        yield f"~ {field}: changed (secret, not shown)"
    elif compared := _compared(old, new):
        yield f"{_sign(difference)} {field}:"
        yield from (f"    {line}" for line in compared)
    elif old is Absent.ABSENT:
        yield f"+ {field}: {_inline(new)}"
    elif new is Absent.ABSENT:
        yield f"- {field}: {_inline(old)}"
    else:
        yield f"~ {field}: {_inline(old)} -> {_inline(new)}"


def _sign(difference: Difference) -> str:
    if difference.old is Absent.ABSENT:
        return "+"
    return "-" if difference.new is Absent.ABSENT else "~"


def _compared(old: Any, new: Any) -> list[str]:
    """Return a line-by-line diff if one side is a text of several lines, else an empty list."""
    if not any(isinstance(side, str) and "\n" in side for side in (old, new)):
        return []
    lines = difflib.unified_diff(_text_lines(old), _text_lines(new), lineterm="", n=1)
    # Line numbers within a value say little; it is enough to show that there is a gap.
    return ["..." if line.startswith("@@") else line for line in [*lines][3:]]


def _text_lines(value: Any) -> list[str]:
    if value is Absent.ABSENT:
        return []
    return value.splitlines() if isinstance(value, str) else [_inline(value)]


def _plain(text: str) -> Text:
    """Return a text that is safe to print: control characters are escaped, and markup has no effect."""
    return Text("".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text))


def _inline(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _table(changes: Changes) -> Table:
    table = Table("what", box=None, pad_edge=False)
    longest = max((len(change.name) for change in changes.changes), default=0)
    table.add_column("name", overflow="fold", min_width=min(longest, 40))
    table.add_column("result" if changes.done else "plan", no_wrap=True)
    table.add_column("note", overflow="fold")  # a truncated path or id is of no use
    for change in changes.changes:
        note = "" if change.outcome.is_write else change.note  # shown above, with the differences
        table.add_row(change.kind, _plain(change.name), changes.word(change.outcome), _plain(note))
    return table


def _summary(changes: Changes) -> str:
    counted = [ChangeOutcome.CREATED, ChangeOutcome.UPDATED, ChangeOutcome.DELETED, ChangeOutcome.UNCHANGED]
    if not changes.changed:
        return "\nNothing was changed." if changes.done else "\nNothing to do: the server has what the files say."
    to = "" if changes.done else "to "
    counts = [f"{changes.count(one)} {to if one.is_write else ''}{changes.word(one)}" for one in counted]
    return f"\n{'Applied' if changes.done else 'Plan'}: {', '.join(counts)}."
