"""The journey of one file, as the ledger has it step by step."""

from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, moment
from sensors.ledger.states import FileState


@dataclass(frozen=True)
class FileJourney:
    """When one file reached each step (UTC), or None for the steps before it."""

    name: str
    inbox: str
    state: FileState
    arrival_id: str | None
    run_id: str | None
    run_name: str | None
    rows: int | None
    reason: str | None
    seen_at: datetime
    settled_at: datetime | None
    staged_at: datetime | None
    announced_at: datetime | None
    receipt_at: datetime | None
    ended_at: datetime | None


def journey_of(ledger: Ledger, name: str, inbox: str | None = None) -> FileJourney | None:
    """Return the journey of the file that was dropped last under a name, perhaps in one inbox, or None."""
    found = ledger.rows(
        "SELECT f.*, a.announced_at, a.receipt_at, a.run_id, a.run_name FROM files f"
        " LEFT JOIN arrivals a ON a.id = f.arrival_id WHERE f.name = :name AND (:inbox IS NULL OR f.inbox = :inbox)"
        " ORDER BY f.id DESC LIMIT 1",
        {"name": name, "inbox": inbox},
    )
    if not found:
        return None
    row = found[0]
    return FileJourney(
        name=row["name"],
        inbox=row["inbox"],
        state=FileState(row["state"]),
        arrival_id=row["arrival_id"],
        run_id=row["run_id"],
        run_name=row["run_name"],
        rows=row["rows"],
        reason=row["reason"],
        seen_at=datetime.fromisoformat(row["seen_at"]),
        settled_at=moment(row["settled_at"]),
        staged_at=moment(row["staged_at"]),
        announced_at=moment(row["announced_at"]),
        receipt_at=moment(row["receipt_at"]),
        ended_at=moment(row["ended_at"]),
    )
