"""What a plan intends and an apply has done: one change for each block and automation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from automations.as_code.diff import Difference


class Outcome(StrEnum):
    """What became of one thing that should be on the server, or should not."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"  # on the server a second time under the same name, and left alone

    @property
    def planned(self) -> str:
        """The word for it before it is done."""
        return _PLANNED.get(self, str(self))

    @property
    def is_write(self) -> bool:
        """Whether the server is written to."""
        return self in _PLANNED


_PLANNED = {Outcome.CREATED: "create", Outcome.UPDATED: "update", Outcome.DELETED: "delete"}


@dataclass(frozen=True)
class Change:
    """One block or automation, and what is done about it; without an id as long as it is not there."""

    kind: str
    name: str
    outcome: Outcome
    id: UUID | None = None
    note: str = ""
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Changes:
    """Everything one plan or apply looked at, in the order in which it is done."""

    changes: tuple[Change, ...]
    done: bool
    """Whether it has been done, or is only planned."""

    @property
    def changed(self) -> bool:
        """Whether anything is written to the server."""
        return any(change.outcome.is_write for change in self.changes)

    def count(self, outcome: Outcome) -> int:
        """Return how many blocks and automations have an outcome."""
        return sum(change.outcome is outcome for change in self.changes)

    def word(self, outcome: Outcome) -> str:
        """Return the word for an outcome, which depends on whether it is done."""
        return str(outcome) if self.done else outcome.planned

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "changed": self.changed,
            "counts": {self.word(outcome): self.count(outcome) for outcome in Outcome},
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
