"""Deadlines of inboxes that expect files: how far each was checked, and which are overdue."""

from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, moment, stamp
from sensors.ledger.notices import Notice, write


@dataclass(frozen=True)
class Expected:
    """How far an inbox's deadlines have been checked, and since when its files are overdue."""

    rule: str
    checked_until: datetime
    overdue_since: datetime | None = None


def read(ledger: Ledger, inbox: str) -> Expected | None:
    """Return the recorded state of an inbox's deadlines, or None before the first check."""
    found = ledger.rows("SELECT * FROM expectations WHERE inbox = ?", (inbox,))
    if not found:
        return None
    row = found[0]
    return Expected(row["rule"], datetime.fromisoformat(row["checked_until"]), moment(row["overdue_since"]))


def record(ledger: Ledger, inbox: str, expected: Expected, notice: Notice | None, now: datetime) -> None:
    """Record the state of an inbox's deadlines, with a notice if there is one to send."""
    since = expected.overdue_since
    with ledger.transaction():
        ledger.change(
            "INSERT INTO expectations (inbox, rule, checked_until, overdue_since) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (inbox) DO UPDATE SET rule = excluded.rule, checked_until = excluded.checked_until,"
            " overdue_since = excluded.overdue_since",
            (inbox, expected.rule, stamp(expected.checked_until), None if since is None else stamp(since)),
        )
        if notice is not None:
            write(ledger, notice, now)


def count_arrived(ledger: Ledger, inbox: str, after: datetime, until: datetime) -> int:
    """Return how many files came into an inbox after `after` and until `until`.

    Files that were withdrawn, or rejected in the inbox, are left out. A file that was seen late, because the sensor
    was down, is counted by its modification time.
    """
    return ledger.rows(
        "SELECT count(*) FROM files WHERE inbox = :inbox AND seen_at > :after"
        " AND (seen_at <= :until OR mtime_ns <= :until_ns)"
        " AND state <> 'withdrawn' AND (state <> 'rejected' OR arrival_id IS NOT NULL)",
        {
            "inbox": inbox,
            "after": stamp(after),
            "until": stamp(until),
            "until_ns": int(until.timestamp() * 1e9),
        },
    )[0][0]
