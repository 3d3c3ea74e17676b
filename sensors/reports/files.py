"""Files as shown to users: one file, files that need attention, and the times at which a file reached each step."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.database import moment
from sensors.ledger.files import EVERY_INBOX, NEEDS_ATTENTION
from sensors.ledger.states import FileState

FILES = (
    "SELECT f.*, CASE WHEN f.arrival_id IS NULL THEN f.path ELSE a.folder || '/' || f.name END AS location"
    " FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
)
"""Append a WHERE clause; `f` is the table of files."""


@dataclass(frozen=True)
class KnownFile:
    """A file in the ledger, of an arrival or still in its inbox; times are UTC."""

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
    """When a user dismissed it; None if it was not dismissed, or has failed again since."""
    location: Path
    """Where the file is, unless it was removed from there."""
    inode: int
    """Inode of the file as it was dropped."""


def file_by_id(ledger: Ledger, file_id: int) -> KnownFile | None:
    """Return the file with this id, or None."""
    return next((known_file(row) for row in ledger.rows(f"{FILES} WHERE f.id = ?", (file_id,))), None)


def known_file(row: sqlite3.Row) -> KnownFile:
    """Return the file in a row of FILES."""
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
        location=Path(row["location"]),
        inode=int(row["inode"]),
    )


def bad_files(ledger: Ledger, limit: int, inbox: str | None = None) -> list[KnownFile]:
    """Return the files that were rejected or failed, dismissed ones included, latest first."""
    inboxes = "SELECT one FROM every_inbox" if inbox is None else "SELECT ?"
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {FILES} WHERE f.inbox IN ({inboxes}) AND f.state IN ('rejected', 'failed')"
        " ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (limit,) if inbox is None else (inbox, limit),
    )
    return [known_file(row) for row in rows]


def needing_attention(ledger: Ledger, limit: int) -> list[KnownFile]:
    """Return the files that were not loaded and not dismissed since, latest first."""
    rows = ledger.rows(f"{FILES} WHERE {NEEDS_ATTENTION} ORDER BY f.ended_at DESC, f.id DESC LIMIT ?", (limit,))
    return [known_file(row) for row in rows]


def count_needing_attention(ledger: Ledger) -> int:
    """Return how many files were not loaded and not dismissed since."""
    return ledger.rows(f"SELECT count(*) AS files FROM files f WHERE {NEEDS_ATTENTION}")[0]["files"]


@dataclass(frozen=True)
class FileJourney:
    """The times (UTC) at which a file reached each step, None for steps that it has not reached."""

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
    """Return the journey of the file that was dropped last under a name, optionally in one inbox, or None."""
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
