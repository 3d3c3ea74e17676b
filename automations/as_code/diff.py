"""Differences between two automations or blocks, field by field, and the list of changes of a plan or an apply."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import zip_longest
from typing import Any, cast
from uuid import UUID


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
