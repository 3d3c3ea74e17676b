"""Counts of an inbox's files by state, and a summary of its activity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.database import moment, stamp
from sensors.ledger.files import EVERY_INBOX
from sensors.ledger.states import FileState

_ENTRY = {
    FileState.SEEN: "waiting",
    FileState.SETTLED: "waiting",
    FileState.STAGING: "in_flight",
    FileState.STAGED: "in_flight",
    FileState.LOADED: "loaded",
    FileState.SKIPPED: "loaded",  # its content was loaded with the file that it repeats
    FileState.REJECTED: "rejected",
    FileState.FAILED: "failed",
}


class InboxCounts(BaseModel):
    """Numbers of files, where seen = waiting + in flight + loaded + rejected + failed."""

    model_config = ConfigDict(frozen=True)

    seen: int = 0
    waiting: int = 0
    in_flight: int = 0
    loaded: int = 0
    rejected: int = 0
    failed: int = 0


def balance(counts: Mapping[FileState, int]) -> InboxCounts:
    """Add up the number of files in each state; withdrawn files are left out."""
    entries = dict.fromkeys(_ENTRY.values(), 0)
    for state, entry in _ENTRY.items():
        entries[entry] += counts.get(state, 0)
    return InboxCounts(seen=sum(entries.values()), **entries)


def read_counts(settings: Settings) -> dict[str, InboxCounts]:
    """Return the counts of every configured inbox, and of any other that is in the ledger.

    Works while the sensor is down. Raises InboxesError, LedgerError.
    """
    names = [inbox.name for inbox in read_inboxes(settings.inboxes_file, settings.inbox_dir)]
    if not settings.ledger_path.exists():
        return {name: InboxCounts() for name in names}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        return books_of(ledger, names)


def books_of(ledger: Ledger, inboxes: Iterable[str]) -> dict[str, InboxCounts]:
    """Return the counts of these inboxes, and of any other that is in the ledger. Raises LedgerError."""
    counts: dict[str, dict[FileState, int]] = {name: {} for name in inboxes}
    for row in ledger.rows("SELECT inbox, state, count(*) AS files FROM files GROUP BY inbox, state"):
        counts.setdefault(row["inbox"], {})[FileState(row["state"])] = row["files"]
    return {name: balance(states) for name, states in counts.items()}


def read_skipped(settings: Settings) -> dict[str, int]:
    """Return the number of skipped duplicates of each inbox that has any. Raises LedgerError."""
    if not settings.ledger_path.exists():
        return {}
    with Ledger(settings.ledger_path, read_only=True) as ledger:
        rows = ledger.rows(
            f"WITH {EVERY_INBOX} SELECT inbox, count(*) AS files FROM files"
            " WHERE inbox IN (SELECT one FROM every_inbox) AND state = 'skipped' GROUP BY inbox"
        )
    return {row["inbox"]: row["files"] for row in rows}


@dataclass(frozen=True)
class InboxActivity:
    """Recent activity of an inbox, in addition to its counts; times are UTC."""

    files_today: int = 0
    """Files loaded since the start of the day, in arrivals that were created at most a day before that."""
    rows_today: int = 0
    oldest_waiting: datetime | None = None
    """When the longest waiting file was seen; None if no file waits."""
    last_name: str | None = None
    """The file that was seen last."""
    last_seen: datetime | None = None
    last_dismissed: datetime | None = None
    """When a file was last dismissed."""


def waiting_since(ledger: Ledger, inbox: str) -> datetime | None:
    """Return when the longest waiting file was seen (UTC), or None if no file waits.

    Ids follow the order in which files were seen, so one index lookup per state is enough, however many files wait.
    """
    first = "SELECT seen_at FROM (SELECT seen_at FROM files WHERE inbox = :inbox AND state = '{}' ORDER BY id LIMIT 1)"
    rows = ledger.rows(f"{first.format('seen')} UNION ALL {first.format('settled')}", {"inbox": inbox})
    return min((datetime.fromisoformat(row["seen_at"]) for row in rows), default=None)


def activity_of(ledger: Ledger, inbox: str, day_start: datetime) -> InboxActivity:
    """Return the recent activity of an inbox; `day_start` is an aware datetime, such as local midnight."""
    today = ledger.rows(
        "SELECT count(*) AS files, coalesce(sum(f.rows), 0) AS loaded FROM arrivals a"
        " JOIN files f ON f.arrival_id = a.id"
        # The bound on created_at, a day earlier, lets the index exclude older arrivals.
        " WHERE a.created_at >= strftime('%Y-%m-%dT%H:%M:%S', ?, '-1 day') AND a.ended_at >= ? AND a.inbox = ?"
        " AND f.state = 'loaded'",
        (stamp(day_start), stamp(day_start), inbox),
    )[0]
    last = ledger.rows("SELECT name, seen_at FROM files WHERE inbox = ? ORDER BY seen_at DESC LIMIT 1", (inbox,))
    dismissed = ledger.rows(
        "SELECT max(dismissed_at) AS last FROM files WHERE inbox = ? AND dismissed_at IS NOT NULL", (inbox,)
    )
    return InboxActivity(
        files_today=today["files"],
        rows_today=today["loaded"],
        oldest_waiting=waiting_since(ledger, inbox),
        last_name=last[0]["name"] if last else None,
        last_seen=moment(last[0]["seen_at"]) if last else None,
        last_dismissed=moment(dismissed[0]["last"]),
    )
