"""What an apply did: its result, and the table that tells it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from rich.table import Table


class Outcome(StrEnum):
    """What became of one thing that should be on the server."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"  # on the server a second time under the same name, and left alone


@dataclass(frozen=True)
class Change:
    """One block or automation, and what was done about it."""

    kind: str
    name: str
    outcome: Outcome
    id: UUID
    note: str = ""


@dataclass(frozen=True)
class ApplyResult:
    """Everything one apply looked at, in the order in which it was done."""

    changes: tuple[Change, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was written to the server."""
        return any(change.outcome in {Outcome.CREATED, Outcome.UPDATED} for change in self.changes)

    def table(self) -> Table:
        """Return the result for a terminal."""
        table = Table("what", "name", "result", box=None, pad_edge=False)
        table.add_column("note", overflow="fold")  # a path or an id that is cut is of no use
        for change in self.changes:
            table.add_row(change.kind, change.name, change.outcome, change.note)
        return table
