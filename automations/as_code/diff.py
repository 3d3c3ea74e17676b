"""Differences between two automations or blocks, field by field, and the list of changes of a plan or an apply."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import zip_longest
from typing import Any, cast
from uuid import UUID

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Absent(Enum):
    """Marks a missing field, since null is a value."""

    ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One field, such as `actions[0].body`: its value on the server and its wanted value."""

    field: str
    old: Any = Absent.ABSENT
    new: Any = Absent.ABSENT
    is_secret: bool = False
    """Whether the values are left out because they are secret."""

    def as_json(self) -> dict[str, Any]:
        """Return the difference as JSON data; a side that is absent is left out."""
        sides = {"old": self.old, "new": self.new}
        shown = {side: value for side, value in sides.items() if value is not Absent.ABSENT}
        return {"field": self.field, **shown, **({"secret": True} if self.is_secret else {})}


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Yield where two contents differ, in the order of their fields.

    >>> list(differences({"actions": [{"body": "a"}]}, {"actions": [{"body": "b"}]}))
    [Difference(field='actions[0].body', old='a', new='b', is_secret=False)]
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        before, after = cast("Mapping[str, Any]", old), cast("Mapping[str, Any]", new)
        for key in dict.fromkeys([*after, *before]):
            field = f"{path}.{key}".removeprefix(".")
            yield from differences(before.get(key, Absent.ABSENT), after.get(key, Absent.ABSENT), field)
    elif (before := _mappings(old)) and (after := _mappings(new)):
        for index, (one, other) in enumerate(zip_longest(before, after, fillvalue=Absent.ABSENT)):
            yield from differences(one, other, f"{path}[{index}]")
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield Difference(path, old, new)


def contents(new: Any, path: str = "") -> Iterator[Difference]:
    """Yield every field with a value, to describe something new."""
    if isinstance(new, Mapping) and new:
        for key, value in cast("Mapping[str, Any]", new).items():
            yield from contents(value, f"{path}.{key}".removeprefix("."))
    elif items := _mappings(new):
        for index, value in enumerate(items):
            yield from contents(value, f"{path}[{index}]")
    elif new not in ("", [], {}):
        yield Difference(path, new=cast("Any", new))


def _mappings(node: Any) -> list[Any]:
    """Return a list that holds mappings, whose fields can be compared one by one; for anything else an empty list."""
    items = cast("list[Any]", node) if isinstance(node, list) else []
    return items if any(isinstance(item, Mapping) for item in items) else []


class ChangeOutcome(StrEnum):
    """What is planned or done about one block or automation."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"  # a further one with the same name on the server, left alone

    @property
    def planned(self) -> str:
        """The word for it before it is done."""
        return _PLANNED.get(self, str(self))

    @property
    def is_write(self) -> bool:
        """Whether this writes to the server."""
        return self in _PLANNED


_PLANNED = {ChangeOutcome.CREATED: "create", ChangeOutcome.UPDATED: "update", ChangeOutcome.DELETED: "delete"}


@dataclass(frozen=True)
class AutomationChange:
    """One block or automation, and what is done about it; `id` is None if it is not on the server yet."""

    kind: str
    name: str
    outcome: ChangeOutcome
    id: UUID | None = None
    note: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Changes:
    """Everything that one plan or apply compared, in the order of execution."""

    changes: tuple[AutomationChange, ...]
    done: bool
    """Whether the changes were made, or are only planned."""

    @property
    def changed(self) -> bool:
        """Whether anything is written to the server."""
        return any(change.outcome.is_write for change in self.changes)

    def count(self, outcome: ChangeOutcome) -> int:
        """Return how many blocks and automations have an outcome."""
        return sum(change.outcome is outcome for change in self.changes)

    def word(self, outcome: ChangeOutcome) -> str:
        """Return the word for an outcome, which depends on whether the changes were made."""
        return str(outcome) if self.done else outcome.planned

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "changed": self.changed,
            "counts": {self.word(outcome): self.count(outcome) for outcome in ChangeOutcome},
            "changes": [
                {
                    "kind": change.kind,
                    "name": change.name,
                    "action": self.word(change.outcome),
                    "id": None if change.id is None else str(change.id),
                    "note": change.note,
                    "differences": [difference.as_json() for difference in change.differences],
                }
                for change in self.changes
            ],
        }


# Print a plan or an apply on the terminal: differences in the style of terraform, then a table of everything.

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
    return Text(readable(text))


def readable(text: str) -> str:
    """Return a text with every character that is not printable escaped; as `readable` in sensors/runtime/text.py."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


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
