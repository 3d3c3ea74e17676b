"""What the ledger forgets: arrivals that ended well long ago, and what belongs to them."""

from datetime import datetime
from pathlib import Path

from sensors.ledger.database import Ledger, stamp


def prunable(ledger: Ledger, inbox: str, before: datetime, limit: int) -> list[tuple[str, Path]]:
    """Return the id and folder of the oldest arrivals that ended before a time with every file loaded or skipped."""
    return [
        (row["id"], Path(row["folder"]))
        for row in ledger.rows(
            "SELECT id, folder FROM arrivals a WHERE inbox = ? AND state IN ('loaded', 'skipped') AND ended_at < ?"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE arrival_id = a.id AND state NOT IN ('loaded', 'skipped'))"
            " ORDER BY ended_at LIMIT ?",
            (inbox, stamp(before), limit),
        )
    ]


def forget(ledger: Ledger, arrival_id: str) -> bool:
    """Delete an arrival that ended well and all that belongs to it, inside the caller's transaction.

    Returns False when it is wanted again.
    """
    well = ledger.rows("SELECT 1 FROM arrivals WHERE id = ? AND state IN ('loaded', 'skipped')", (arrival_id,))
    if not well:
        return False
    ledger.change("DELETE FROM announcements WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM files WHERE arrival_id = ?", (arrival_id,))
    ledger.change("DELETE FROM arrivals WHERE id = ?", (arrival_id,))
    return True


def forget_leftovers(ledger: Ledger, inbox: str, before: datetime) -> int:
    """Delete withdrawn files and notices that Prefect has, both older than a time; return how many."""
    with ledger.transaction():
        withdrawn = ledger.change(
            "DELETE FROM files WHERE inbox = ? AND state = 'withdrawn' AND ended_at < ?", (inbox, stamp(before))
        )
        told = ledger.change("DELETE FROM notices WHERE inbox = ? AND sent_at < ?", (inbox, stamp(before)))
        return withdrawn + told
