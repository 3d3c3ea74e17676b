"""A file as the ledger knows it, and where its bytes are."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.database import moment
from sensors.ledger.states import FileState

FILES = (
    "SELECT f.*, CASE WHEN f.arrival_id IS NULL THEN f.path ELSE a.folder || '/' || f.name END AS lies"
    " FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
)
"""To be followed by a WHERE; `f` are the files."""


@dataclass(frozen=True)
class KnownFile:
    """A file of an arrival, or one that was refused at the door; moments are UTC."""

    id: int
    name: str
    inbox: str
    arrival_id: str | None
    state: FileState
    size: int
    rows: int | None
    reason: str | None
    seen_at: datetime
    settled_at: datetime | None
    staged_at: datetime | None
    ended_at: datetime | None
    dismissed_at: datetime | None
    """When a person said that it needs nobody any more; None if it does, or never did."""
    lies: Path
    """Where its bytes are, if no owner took it away."""
    inode: int
    """Of the file as it was dropped."""


def file_by_id(ledger: Ledger, file_id: int) -> KnownFile | None:
    """Return one file, or None if there is none of that id."""
    return next((known_file(row) for row in ledger.rows(f"{FILES} WHERE f.id = ?", (file_id,))), None)


def known_file(row: sqlite3.Row) -> KnownFile:
    """Return what a row of FILES says."""
    return KnownFile(
        id=row["id"],
        name=row["name"],
        inbox=row["inbox"],
        arrival_id=row["arrival_id"],
        state=FileState(row["state"]),
        size=row["size"],
        rows=row["rows"],
        reason=row["reason"],
        seen_at=datetime.fromisoformat(row["seen_at"]),
        settled_at=moment(row["settled_at"]),
        staged_at=moment(row["staged_at"]),
        ended_at=moment(row["ended_at"]),
        dismissed_at=moment(row["dismissed_at"]) if (row["dismissed_at"] or "") >= (row["ended_at"] or "") else None,
        lies=Path(row["lies"]),
        inode=int(row["inode"]),
    )
