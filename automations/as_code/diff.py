"""The difference between two contents, field by field."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Any, cast


class Absent(Enum):
    """There is no such field; null would be a value."""

    ABSENT = "absent"


@dataclass(frozen=True)
class Difference:
    """One field, such as `actions[0].body`, what it is on the server and what it should be."""

    field: str
    old: Any = Absent.ABSENT
    new: Any = Absent.ABSENT
    is_secret: bool = False
    """Whether the values are not even in here, only that they differ."""

    def as_json(self) -> dict[str, Any]:
        """Return the difference; a side that is absent is left out."""
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
    """Yield every field that says something, as it is for something new."""
    if isinstance(new, Mapping) and new:
        for key, value in cast("Mapping[str, Any]", new).items():
            yield from contents(value, f"{path}.{key}".removeprefix("."))
    elif items := _mappings(new):
        for index, value in enumerate(items):
            yield from contents(value, f"{path}[{index}]")
    elif new not in ("", [], {}):
        yield Difference(path, new=cast("Any", new))


def _mappings(node: Any) -> list[Any]:
    """Return a list that holds mappings, whose fields can be told apart; for anything else an empty one."""
    items = cast("list[Any]", node) if isinstance(node, list) else []
    return items if any(isinstance(item, Mapping) for item in items) else []
