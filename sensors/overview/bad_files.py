"""Files that were not loaded: the latest of them, each with its reason."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.database import stamp
from sensors.ledger.files import EVERY_INBOX
from sensors.ledger.states import FileState

_FILES = (
    "SELECT f.*, CASE WHEN f.arrival_id IS NULL THEN f.path ELSE a.folder || '/' || f.name END AS lies"
    " FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
)


@dataclass(frozen=True)
class KnownFile:
    """A file that the ledger knows, and where its bytes are if no owner took it away; moments are UTC."""

    id: int
    name: str
    inbox: str
    arrival_id: str | None
    state: FileState
    size: int
    rows: int | None
    reason: str | None
    seen_at: datetime
    ended_at: datetime | None
    lies: Path


def bad_files(ledger: Ledger, limit: int, inbox: str | None = None) -> list[KnownFile]:
    """Return the files that were rejected or failed, the latest first."""
    inboxes = "SELECT one FROM every_inbox" if inbox is None else "SELECT ?"
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {_FILES} WHERE f.inbox IN ({inboxes}) AND f.state IN ('rejected', 'failed')"
        " ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (limit,) if inbox is None else (inbox, limit),
    )
    return [_known(row) for row in rows]


def bad_since(ledger: Ledger, since: datetime, limit: int) -> list[KnownFile]:
    """Return the files that were rejected or failed since a moment, the latest first."""
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {_FILES} WHERE f.inbox IN (SELECT one FROM every_inbox)"
        " AND f.state IN ('rejected', 'failed') AND f.ended_at >= ? ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (stamp(since), limit),
    )
    return [_known(row) for row in rows]


def count_bad_since(ledger: Ledger, since: datetime) -> int:
    """Return how many files were rejected or failed since a moment."""
    return ledger.rows(
        f"WITH {EVERY_INBOX} SELECT count(*) AS files FROM files WHERE inbox IN (SELECT one FROM every_inbox)"
        " AND state IN ('rejected', 'failed') AND ended_at >= ?",
        (stamp(since),),
    )[0]["files"]


def file_by_id(ledger: Ledger, file_id: int) -> KnownFile | None:
    """Return one file, or None if there is none of that id."""
    return next((_known(row) for row in ledger.rows(f"{_FILES} WHERE f.id = ?", (file_id,))), None)


def _known(row: sqlite3.Row) -> KnownFile:
    ended = row["ended_at"]
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
        ended_at=None if ended is None else datetime.fromisoformat(ended),
        lies=Path(row["lies"]),
    )
