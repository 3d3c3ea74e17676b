"""An inbox at a glance: what waits in it and since when, what was loaded today, and what came last."""

from dataclasses import dataclass
from datetime import datetime

from sensors.ledger import Ledger
from sensors.ledger.database import moment, stamp


@dataclass(frozen=True)
class InboxGlance:
    """What the books do not say of an inbox; moments are UTC."""

    files_today: int = 0
    """Files loaded since the start of the day."""
    rows_today: int = 0
    oldest_waiting: datetime | None = None
    """When the file was seen that has waited longest to be taken; None while none waits."""
    last_name: str | None = None
    """The file that was seen last."""
    last_seen: datetime | None = None
    last_dismissed: datetime | None = None
    """When somebody last said of a file that was not loaded that it needs nobody any more."""


def waiting_since(ledger: Ledger, inbox: str) -> datetime | None:
    """Return when the file was seen that has waited longest to be taken (UTC), or None while none waits.

    Files are written down in the order in which they are seen, so that of each state the first one of the index will
    do, however many wait.
    """
    first = "SELECT seen_at FROM (SELECT seen_at FROM files WHERE inbox = :inbox AND state = '{}' ORDER BY id LIMIT 1)"
    rows = ledger.rows(f"{first.format('seen')} UNION ALL {first.format('settled')}", {"inbox": inbox})
    return min((datetime.fromisoformat(row["seen_at"]) for row in rows), default=None)


def glance_at(ledger: Ledger, inbox: str, day_start: datetime) -> InboxGlance:
    """Look at one inbox; `day_start` is an aware datetime, local midnight for instance."""
    today = ledger.rows(
        "SELECT count(*) AS files, coalesce(sum(f.rows), 0) AS loaded FROM arrivals a"
        " JOIN files f ON f.arrival_id = a.id"
        # Taken a day before at the earliest, so that the index of times leaves out the rest.
        " WHERE a.created_at >= strftime('%Y-%m-%dT%H:%M:%S', ?, '-1 day') AND a.ended_at >= ? AND a.inbox = ?"
        " AND f.state = 'loaded'",
        (stamp(day_start), stamp(day_start), inbox),
    )[0]
    last = ledger.rows("SELECT name, seen_at FROM files WHERE inbox = ? ORDER BY seen_at DESC LIMIT 1", (inbox,))
    dismissed = ledger.rows(
        "SELECT max(dismissed_at) AS last FROM files WHERE inbox = ? AND dismissed_at IS NOT NULL", (inbox,)
    )
    return InboxGlance(
        files_today=today["files"],
        rows_today=today["loaded"],
        oldest_waiting=waiting_since(ledger, inbox),
        last_name=last[0]["name"] if last else None,
        last_seen=moment(last[0]["seen_at"]) if last else None,
        last_dismissed=moment(dismissed[0]["last"]),
    )
