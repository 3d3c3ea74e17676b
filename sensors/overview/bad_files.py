"""Files that were not loaded: the latest of them, each with its reason."""

from datetime import datetime

from sensors.ledger import Ledger
from sensors.ledger.database import stamp
from sensors.ledger.files import EVERY_INBOX
from sensors.overview.known_file import FILES, KnownFile, known_file


def bad_files(ledger: Ledger, limit: int, inbox: str | None = None) -> list[KnownFile]:
    """Return the files that were rejected or failed, the latest first."""
    inboxes = "SELECT one FROM every_inbox" if inbox is None else "SELECT ?"
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {FILES} WHERE f.inbox IN ({inboxes}) AND f.state IN ('rejected', 'failed')"
        " ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (limit,) if inbox is None else (inbox, limit),
    )
    return [known_file(row) for row in rows]


def bad_since(ledger: Ledger, since: datetime, limit: int) -> list[KnownFile]:
    """Return the files that were rejected or failed since a moment, the latest first."""
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {FILES} WHERE f.inbox IN (SELECT one FROM every_inbox)"
        " AND f.state IN ('rejected', 'failed') AND f.ended_at >= ? ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (stamp(since), limit),
    )
    return [known_file(row) for row in rows]


def count_bad_since(ledger: Ledger, since: datetime) -> int:
    """Return how many files were rejected or failed since a moment."""
    return ledger.rows(
        f"WITH {EVERY_INBOX} SELECT count(*) AS files FROM files WHERE inbox IN (SELECT one FROM every_inbox)"
        " AND state IN ('rejected', 'failed') AND ended_at >= ?",
        (stamp(since),),
    )[0]["files"]
