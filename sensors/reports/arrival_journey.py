"""The whole journey of one arrival: its files, its announcements, its run."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger
from sensors.ledger.database import moment
from sensors.reports.arrivals import SUMMARY, ArrivalSummary, summary_of
from sensors.reports.files import FILES, KnownFile, known_file


@dataclass(frozen=True)
class JourneyAnnouncement:
    """One event that told Prefect of the arrival, and what it led to."""

    attempt: int
    intended_at: datetime
    confirmed_at: datetime | None
    failure: str | None
    run_id: str | None


@dataclass(frozen=True)
class ArrivalJourney:
    """One arrival with everything that the ledger knows of it."""

    arrival: ArrivalSummary
    folder: Path
    files: tuple[KnownFile, ...]
    """At most as many as were asked for, those that need a person first."""
    announcements: tuple[JourneyAnnouncement, ...]

    def steps(self) -> Iterator[tuple[str, datetime | None]]:
        """Yield each step of the journey and when it was reached (UTC), or None."""
        arrival = self.arrival
        yield "seen", arrival.seen_at
        yield "settled", max((file.settled_at for file in self.files if file.settled_at), default=None)
        yield "staged", arrival.staged_at
        yield "announced", arrival.announced_at
        yield "run", arrival.receipt_at
        yield arrival.state.value if arrival.has_ended else "outcome", arrival.ended_at


def arrival_journey(ledger: Ledger, arrival_id: str, max_files: int = 200) -> ArrivalJourney | None:
    """Return the journey of an arrival, or None if there is none of that id."""
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
