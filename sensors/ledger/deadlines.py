"""What the ledger says of inboxes that expect files."""

from dataclasses import dataclass
from datetime import datetime

from sensors.ledger.database import Ledger, moment, stamp
from sensors.ledger.notices import Notice, write


@dataclass(frozen=True)
class Expected:
    """How far an inbox was looked at, and since when its files are overdue."""

    rule: str
    checked_until: datetime
    overdue_since: datetime | None = None


def read(ledger: Ledger, inbox: str) -> Expected | None:
    """Return what is known of an inbox's expectation, or None before it was looked at."""
    found = ledger.rows("SELECT * FROM expectations WHERE inbox = ?", (inbox,))
    if not found:
        return None
    row = found[0]
    return Expected(row["rule"], datetime.fromisoformat(row["checked_until"]), moment(row["overdue_since"]))


def record(ledger: Ledger, inbox: str, expected: Expected, notice: Notice | None, now: datetime) -> None:
    """Write down how an inbox's expectation stands, and what a person is told of it."""
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
    """Return how many files came into an inbox after a time and until another, refused ones left out.

    A file that was seen late, after the sensor had been down, came when it was last changed.
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
