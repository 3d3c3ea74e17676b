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
    waiting = ledger.rows(
        "SELECT min(seen_at) AS since FROM files WHERE inbox = ? AND state IN ('seen', 'settled')", (inbox,)
    )[0]
    last = ledger.rows("SELECT name, seen_at FROM files WHERE inbox = ? ORDER BY seen_at DESC LIMIT 1", (inbox,))
    return InboxGlance(
        files_today=today["files"],
        rows_today=today["loaded"],
        oldest_waiting=moment(waiting["since"]),
        last_name=last[0]["name"] if last else None,
        last_seen=moment(last[0]["seen_at"]) if last else None,
    )
