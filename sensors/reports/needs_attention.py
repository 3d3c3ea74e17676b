"""Issues for the user's attention: undelivered alerts, files that were not loaded or moved, and stalled arrivals."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime

from automations.alert_service import OutboxError, read_undelivered
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.files import NEEDS_ATTENTION, BlockedFile, count_still_blocked, still_blocked
from sensors.ledger.states import FileState
from sensors.reports.files import count_needing_attention


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
        f"alerts are not delivered to {one.name} since {one.failing_since.astimezone():%Y-%m-%d %H:%M:%S %Z}, "
        f"{one.waiting} wait: {one.failure}; mend NOTIFY_URLS in .env, then `just apply`"
        for one in found.channels
        if one.waiting > one.perhaps
    ]
    if found.alerts and not lines and found.oldest_at is not None:
        since = f"{found.oldest_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        lines = [f"{found.alerts} alerts are on their way, the oldest since {since}: {found.oldest_subject}"]
    if found.perhaps and found.perhaps_at is not None:
        since = f"{found.perhaps_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        lines.append(
            f"{found.perhaps} alerts are perhaps delivered: sent, and no answer came, the oldest at {since}: "
            f"{found.perhaps_subject}; they are sent again after an hour, data/logs/alerts.log says where"
        )
    return Alerts(found.alerts, tuple(lines), found.perhaps)


MOST_BLOCKED = 5
"""How many blocked files are listed by name."""


@dataclass(frozen=True)
class BadFile:
    """A file that was rejected or failed."""

    name: str
    inbox: str
    state: FileState
    reason: str
    arrival_id: str | None
    ended_at: datetime


@dataclass(frozen=True)
class StalledArrival:
    """An arrival that was announced more than once, since its last replay, and has no run."""

    id: str
    attempt: int
    reason: str


@dataclass(frozen=True)
class NeedsAttention:
    """The latest bad files that were not dismissed (newest first), all stalled arrivals, and all overdue inboxes."""

    files: tuple[BadFile, ...] = ()
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
        files = ledger.rows(
            f"SELECT f.* FROM files f WHERE {NEEDS_ATTENTION} ORDER BY f.ended_at DESC, f.id DESC LIMIT ?", (limit,)
        )
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
        tuple(
            BadFile(
                row["name"],
                row["inbox"],
                FileState(row["state"]),
                row["reason"] or "no reason was given",
                row["arrival_id"],
                datetime.fromisoformat(row["ended_at"]),
            )
            for row in files
        ),
        tuple(StalledArrival(row["id"], row["attempt"], row["reason"]) for row in arrivals),
        {
            row["inbox"]: f"{datetime.fromisoformat(row['overdue_since']).astimezone():%Y-%m-%d %H:%M %Z}"
            for row in overdue
        },
        tuple(blocked_files),
        {name: more for name, found in counts.items() if (more := found - sum(f.inbox == name for f in blocked_files))},
        count - len(files),
    )
