"""Files that were not loaded: the latest of them, each with its reason."""

from sensors.ledger import Ledger
from sensors.ledger.dismissals import NEEDS_A_PERSON
from sensors.ledger.files import EVERY_INBOX
from sensors.reports.files import FILES, KnownFile, known_file


def bad_files(ledger: Ledger, limit: int, inbox: str | None = None) -> list[KnownFile]:
    """Return the files that were rejected or failed, the latest first."""
    inboxes = "SELECT one FROM every_inbox" if inbox is None else "SELECT ?"
    rows = ledger.rows(
        f"WITH {EVERY_INBOX} {FILES} WHERE f.inbox IN ({inboxes}) AND f.state IN ('rejected', 'failed')"
        " ORDER BY f.ended_at DESC, f.id DESC LIMIT ?",
        (limit,) if inbox is None else (inbox, limit),
    )
    return [known_file(row) for row in rows]


def needing_a_person(ledger: Ledger, limit: int) -> list[KnownFile]:
    """Return the files that were not loaded and that nobody has dismissed, the latest first."""
    rows = ledger.rows(f"{FILES} WHERE {NEEDS_A_PERSON} ORDER BY f.ended_at DESC, f.id DESC LIMIT ?", (limit,))
    return [known_file(row) for row in rows]


def count_needing_a_person(ledger: Ledger) -> int:
    """Return how many files were not loaded and dismissed by nobody."""
    return ledger.rows(f"SELECT count(*) AS files FROM files f WHERE {NEEDS_A_PERSON}")[0]["files"]
