"""The books of an inbox: what became of every file that was seen in it."""

from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ConfigDict

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.files import EVERY_INBOX
from sensors.ledger.states import FileState

_ENTRY = {
    FileState.SEEN: "waiting",
    FileState.SETTLED: "waiting",
    FileState.STAGING: "in_flight",
    FileState.STAGED: "in_flight",
    FileState.LOADED: "loaded",
    FileState.SKIPPED: "loaded",  # its content is, by the file that it repeats
    FileState.REJECTED: "rejected",
    FileState.FAILED: "failed",
}


class Books(BaseModel):
    """Counts of files; they balance: seen = waiting + in flight + loaded + rejected + failed."""

    model_config = ConfigDict(frozen=True)

    seen: int = 0
    waiting: int = 0
    in_flight: int = 0
    loaded: int = 0
    rejected: int = 0
    failed: int = 0


def balance(counts: Mapping[FileState, int]) -> Books:
    """Return the books for the number of files in each state; a withdrawn file was never ours."""
    entries = dict.fromkeys(_ENTRY.values(), 0)
    for state, entry in _ENTRY.items():
        entries[entry] += counts.get(state, 0)
    return Books(seen=sum(entries.values()), **entries)


def read_books(settings: Settings) -> dict[str, Books]:
    """Return the books of every configured inbox, and of any other that the ledger knows.

    Works while the sensor is down. Raises InboxesError, LedgerError.
    """
    names = [inbox.name for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)]
    if not settings.ledger_path.exists():
        return {name: Books() for name in names}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        return books_of(ledger, names)


def books_of(ledger: Ledger, inboxes: Iterable[str]) -> dict[str, Books]:
    """Return the books of these inboxes, and of any other that the ledger knows. Raises LedgerError."""
    counts: dict[str, dict[FileState, int]] = {name: {} for name in inboxes}
    for row in ledger.rows("SELECT inbox, state, count(*) AS files FROM files GROUP BY inbox, state"):
        counts.setdefault(row["inbox"], {})[FileState(row["state"])] = row["files"]
    return {name: balance(states) for name, states in counts.items()}


def read_skipped(settings: Settings) -> dict[str, int]:
    """Return how many files each inbox has skipped as duplicates, where there are any. Raises LedgerError."""
    if not settings.ledger_path.exists():
        return {}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        rows = ledger.rows(
            f"WITH {EVERY_INBOX} SELECT inbox, count(*) AS files FROM files"
            " WHERE inbox IN (SELECT one FROM every_inbox) AND state = 'skipped' GROUP BY inbox"
        )
    return {row["inbox"]: row["files"] for row in rows}
