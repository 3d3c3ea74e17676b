"""Summaries of arrivals, and all details of one arrival with its files, announcements and run."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.database import moment, stamp
from sensors.ledger.states import ENDED, ArrivalState
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
