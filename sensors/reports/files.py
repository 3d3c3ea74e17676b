"""Files as shown to users: one file, files that need attention, and the times at which a file reached each step."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from automations.alert_service import OutboxError, read_undelivered
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.database import moment
from sensors.ledger.files import EVERY_INBOX, NEEDS_ATTENTION, BlockedFile, count_still_blocked, still_blocked
from sensors.ledger.states import FileState
from sensors.runtime.text import local_minute, local_time

FILES = (
    "SELECT f.*, CASE WHEN f.arrival_id IS NULL THEN f.path ELSE a.folder || '/' || f.name END AS location"
    " FROM files f LEFT JOIN arrivals a ON a.id = f.arrival_id"
)
"""Append a WHERE clause; `f` is the table of files."""


@dataclass(frozen=True, kw_only=True)
class FileSteps:
    """A file in the ledger: what became of it, and the times (UTC) at which it reached each step, or None."""

    name: str
    inbox: str
    arrival_id: str | None
    state: FileState
    rows: int | None
    reason: str | None
    seen_at: datetime
    settled_at: datetime | None
    staged_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class KnownFile(FileSteps):
    """A file in the ledger, of an arrival or still in its inbox, and where it is."""

    id: int
    size: int
    dismissed_at: datetime | None
    """When a user dismissed it; None if it was not dismissed, or has failed again since."""
    location: Path
    """Where the file is, unless it was removed from there."""
    inode: int
    """Inode of the file as it was dropped."""


@dataclass(frozen=True, kw_only=True)
class FileJourney(FileSteps):
    """A file in the ledger, and the announcement and run of its arrival."""

    run_id: str | None
    run_name: str | None
    announced_at: datetime | None
    receipt_at: datetime | None


def file_by_id(ledger: Ledger, file_id: int) -> KnownFile | None:
    """Return the file with this id, or None."""
    return next((known_file(row) for row in ledger.rows(f"{FILES} WHERE f.id = ?", (file_id,))), None)


def known_file(row: sqlite3.Row) -> KnownFile:
    """Return the file in a row of FILES."""
    return KnownFile(
        **_steps(row),
        id=row["id"],
        size=row["size"],
        dismissed_at=moment(row["dismissed_at"]) if (row["dismissed_at"] or "") >= (row["ended_at"] or "") else None,
        location=Path(row["location"]),
        inode=int(row["inode"]),
    )


def _steps(row: sqlite3.Row) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("name", "inbox", "arrival_id", "rows", "reason")},
        **{name: moment(row[name]) for name in ("seen_at", "settled_at", "staged_at", "ended_at")},
        "state": FileState(row["state"]),
    }


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
        **_steps(row),
        run_id=row["run_id"],
        run_name=row["run_name"],
        announced_at=moment(row["announced_at"]),
        receipt_at=moment(row["receipt_at"]),
    )


# Issues for the user's attention: undelivered alerts, files that were not loaded or moved, and stalled arrivals.


@dataclass(frozen=True)
class Alerts:
    """Numbers of alerts that are not, or perhaps not, delivered, with a line of text for each problem."""

    undelivered: int = 0
    needs_a_person: tuple[str, ...] = ()
    perhaps_delivered: int = 0


def read_alerts(settings: Settings) -> Alerts:
    """Read the outbox of alerts; works while the stack is down."""
    try:
        found = read_undelivered(settings.state_dir / "alerts.db")
    except (OutboxError, sqlite3.Error) as error:
        return Alerts(0, (str(error),))
    lines = [
        f"alerts are not delivered to {one.name} since {local_time(one.failing_since)}, "
        f"{one.waiting} wait: {one.failure}; mend NOTIFY_URLS in .env, then `just apply`"
        for one in found.channels
        if one.waiting > one.perhaps
    ]
    if found.alerts and not lines and found.oldest_at is not None:
        since = f"{local_time(found.oldest_at)}"
        lines = [f"{found.alerts} alerts are on their way, the oldest since {since}: {found.oldest_subject}"]
    if found.perhaps and found.perhaps_at is not None:
        since = f"{local_time(found.perhaps_at)}"
        lines.append(
            f"{found.perhaps} alerts are perhaps delivered: sent, and no answer came, the oldest at {since}: "
            f"{found.perhaps_subject}; they are sent again after an hour, data/logs/alerts.log says where"
        )
    return Alerts(found.alerts, tuple(lines), found.perhaps)


MOST_BLOCKED = 5
"""How many blocked files are listed by name."""


@dataclass(frozen=True)
class StalledArrival:
    """An arrival that was announced more than once, since its last replay, and has no run."""

    id: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class NeedsAttention:
    """The latest bad files that were not dismissed (newest first), all stalled arrivals, and all overdue inboxes."""

    files: tuple[KnownFile, ...] = ()
    arrivals: tuple[StalledArrival, ...] = ()
    overdue: dict[str, str] = field(default_factory=dict[str, str])
    """Local time since which files are overdue, by inbox."""
    blocked: tuple[BlockedFile, ...] = ()
    """The blocked files that have waited longest, at most MOST_BLOCKED."""
    more_blocked: dict[str, int] = field(default_factory=dict[str, int])
    """Number of blocked files beyond those in `blocked`, by inbox."""
    more_files: int = 0
    """Number of bad files beyond those in `files`."""


def read_needs_attention(settings: Settings, limit: int = 5) -> NeedsAttention:
    """Read the ledger's issues, with at most `limit` bad files; works while the sensor is down. Raises LedgerError."""
    if not settings.ledger_path.exists():
        return NeedsAttention()
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        files = needing_attention(ledger, limit)
        count = count_needing_attention(ledger) if len(files) == limit > 0 else len(files)
        arrivals = ledger.rows(
            "SELECT a.id, a.attempt, coalesce((SELECT failure FROM announcements n WHERE n.arrival_id = a.id"
            " AND failure IS NOT NULL ORDER BY n.attempt DESC LIMIT 1), a.reason, 'no receipt') AS reason"
            " FROM arrivals a WHERE a.state IN ('staged', 'announced') AND a.attempt > a.given_up + 1"
            " ORDER BY a.created_at"
        )
        blocked_files, counts = still_blocked(ledger, MOST_BLOCKED), count_still_blocked(ledger)
        overdue = ledger.rows("SELECT inbox, overdue_since FROM expectations WHERE overdue_since IS NOT NULL")
    return NeedsAttention(
        tuple(files),
        tuple(StalledArrival(row["id"], row["attempt"], row["reason"]) for row in arrivals),
        {row["inbox"]: local_minute(datetime.fromisoformat(row["overdue_since"])) for row in overdue},
        tuple(blocked_files),
        {name: more for name, found in counts.items() if (more := found - sum(f.inbox == name for f in blocked_files))},
        count - len(files),
    )
