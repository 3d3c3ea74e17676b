"""Summaries of arrivals, and all details of one arrival with its files, announcements and run."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.ledger.database import moment, stamp
from sensors.ledger.files import EVERY_INBOX
from sensors.ledger.states import ENDED, ArrivalState, FileState
from sensors.reports.files import FILES, KnownFile, known_file


def run_url(prefect_page: str, run_id: str) -> str:
    """Return the URL of a run in Prefect's UI; `prefect_page` has no slash at its end."""
    return f"{prefect_page}/runs/flow-run/{run_id}"


SUMMARY = (
    "SELECT a.*, min(f.id) AS first_id, f.name AS first_name, count(f.id) AS files, coalesce(sum(f.size), 0) AS size,"
    " sum(f.rows) AS row_count, count(CASE WHEN f.state IN ('rejected', 'failed') THEN 1 END) AS bad,"
    " (SELECT min(seen_at) FROM files WHERE arrival_id = a.id) AS seen_at"
    " FROM arrivals a LEFT JOIN files f ON f.arrival_id = a.id"
)
"""Append a WHERE clause and GROUP BY a.id. SQLite takes the bare columns from the row with the minimum."""


@dataclass(frozen=True)
class ArrivalSummary:
    """One arrival; times are UTC, and None for steps that it has not reached."""

    id: str
    inbox: str
    state: ArrivalState
    first_name: str
    """The name of the file that was seen first."""
    files: int
    bad: int
    """How many of the files were rejected or failed."""
    size: int
    """Bytes of all files together."""
    rows: int | None
    attempt: int
    """How often it was announced."""
    reason: str | None
    seen_at: datetime | None
    created_at: datetime
    staged_at: datetime | None
    announced_at: datetime | None
    receipt_at: datetime | None
    ended_at: datetime | None
    run_id: str | None
    run_name: str | None

    @property
    def title(self) -> str:
        """A short title for users: `orders.csv`, or `orders.csv +12`."""
        return self.first_name if self.files <= 1 else f"{self.first_name} +{self.files - 1}"

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def seconds_to_run(self) -> float | None:
        """Seconds from the first file being seen to the run being known, or None."""
        return _seconds(self.seen_at, self.receipt_at)

    @property
    def seconds_to_end(self) -> float | None:
        """Seconds from the first file being seen to the outcome, or None."""
        return _seconds(self.seen_at, self.ended_at)


def latest(
    ledger: Ledger, limit: int, *, inbox: str | None = None, before: datetime | None = None
) -> list[ArrivalSummary]:
    """Return the latest arrivals, newest first, optionally only those of one inbox or created before a moment."""
    rows = ledger.rows(
        f"{SUMMARY} WHERE a.id IN (SELECT id FROM arrivals WHERE (:inbox IS NULL OR inbox = :inbox)"
        " AND (:before IS NULL OR created_at < :before) ORDER BY created_at DESC LIMIT :limit)"
        " GROUP BY a.id ORDER BY a.created_at DESC, a.id DESC",
        {"inbox": inbox, "before": before and stamp(before), "limit": limit},
    )
    return [summary_of(row) for row in rows]


def latest_failed(ledger: Ledger, limit: int, *, inbox: str | None = None) -> list[ArrivalSummary]:
    """Return the latest failed arrivals, newest first, optionally only those of one inbox.

    Uses the index of failed arrivals, which are few among a million loaded ones.
    """
    rows = ledger.rows(
        f"{SUMMARY} WHERE a.id IN (SELECT id FROM arrivals INDEXED BY arrivals_failed WHERE state = 'failed'"
        " AND (:inbox IS NULL OR inbox = :inbox) ORDER BY created_at DESC LIMIT :limit)"
        " GROUP BY a.id ORDER BY a.created_at DESC, a.id DESC",
        {"inbox": inbox, "limit": limit},
    )
    return [summary_of(row) for row in rows]


def summary_of(row: sqlite3.Row) -> ArrivalSummary:
    """Return the summary in a row of SUMMARY."""
    return ArrivalSummary(
        id=row["id"],
        inbox=row["inbox"],
        state=ArrivalState(row["state"]),
        first_name=row["first_name"] or "(no file)",
        files=row["files"],
        bad=row["bad"],
        size=row["size"],
        rows=row["row_count"],
        attempt=row["attempt"],
        reason=row["reason"],
        seen_at=moment(row["seen_at"]),
        created_at=datetime.fromisoformat(row["created_at"]),
        staged_at=moment(row["staged_at"]),
        announced_at=moment(row["announced_at"]),
        receipt_at=moment(row["receipt_at"]),
        ended_at=moment(row["ended_at"]),
        run_id=row["run_id"],
        run_name=row["run_name"],
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())


@dataclass(frozen=True)
class JourneyAnnouncement:
    """One announcement of the arrival to Prefect, and the run that it started."""

    attempt: int
    intended_at: datetime
    confirmed_at: datetime | None
    failure: str | None
    run_id: str | None


@dataclass(frozen=True)
class ArrivalJourney:
    """One arrival with everything that the ledger has about it."""

    arrival: ArrivalSummary
    folder: Path
    files: tuple[KnownFile, ...]
    """Rejected and failed files come first; may be cut off at the number that was asked for."""
    announcements: tuple[JourneyAnnouncement, ...]

    def steps(self) -> Iterator[tuple[str, datetime | None]]:
        """Yield the name of each step and the UTC time when it was reached, or None."""
        arrival = self.arrival
        yield "seen", arrival.seen_at
        yield "settled", max((file.settled_at for file in self.files if file.settled_at), default=None)
        yield "staged", arrival.staged_at
        yield "announced", arrival.announced_at
        yield "run", arrival.receipt_at
        yield arrival.state.value if arrival.has_ended else "outcome", arrival.ended_at


def arrival_journey(ledger: Ledger, arrival_id: str, max_files: int = 200) -> ArrivalJourney | None:
    """Return the details of an arrival, or None if there is none with this id."""
    found = ledger.rows(f"{SUMMARY} WHERE a.id = ? GROUP BY a.id", (arrival_id,))
    if not found:
        return None
    files = ledger.rows(
        f"{FILES} WHERE f.arrival_id = ? ORDER BY f.state IN ('rejected', 'failed') DESC, f.id LIMIT ?",
        (arrival_id, max_files),
    )
    announcements = ledger.rows("SELECT * FROM announcements WHERE arrival_id = ? ORDER BY attempt", (arrival_id,))
    return ArrivalJourney(
        summary_of(found[0]),
        Path(found[0]["folder"]),
        tuple(known_file(row) for row in files),
        tuple(
            JourneyAnnouncement(
                attempt=row["attempt"],
                intended_at=datetime.fromisoformat(row["intended_at"]),
                confirmed_at=moment(row["confirmed_at"]),
                failure=row["failure"],
                run_id=row["run_id"],
            )
            for row in announcements
        ),
    )


# Counts of an inbox's files by state, and a summary of its activity.

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
