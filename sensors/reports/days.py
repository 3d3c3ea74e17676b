"""Hourly statistics of one day: arrivals, files, rows, failures and latencies."""

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from pathlib import Path
from statistics import median, quantiles

from automations.alert_service import OutboxError, read_undelivered
from sensors.ledger import Ledger, LedgerError
from sensors.ledger.arrivals import UNFINISHED
from sensors.ledger.database import moment, stamp
from sensors.ledger.states import ENDED, ArrivalState, FileState
from sensors.reports.arrivals import SUMMARY, ArrivalSummary, InboxCounts, balance, summary_of, waiting_since
from sensors.runtime.clock import Clock

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Hour:
    """The arrivals created in one hour, with their present results; latencies in seconds, None if no run is known."""

    start: datetime
    arrivals: int = 0
    files: int = 0
    rows: int = 0
    failures: int = 0
    """Number of files that were rejected or failed."""
    median_to_run: float | None = None
    """From an arrival's first file being seen to its run being known."""
    slowest_to_run: float | None = None


@dataclass(frozen=True)
class Day:
    """The hours of one local day (23 to 25), and the same figures for the whole day."""

    hours: tuple[Hour, ...]
    total: Hour
    p95_to_run: float | None


def midnight_before(moment: datetime, zone: tzinfo) -> datetime:
    """Return the start of the local day that contains a moment."""
    return moment.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)


def read_day(ledger: Ledger, day: date, zone: tzinfo, inbox: str | None = None) -> Day:
    """Return the statistics of a local day, for all inboxes or for one."""
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone)
    rows = ledger.rows(
        f"{SUMMARY} WHERE a.created_at >= ? AND a.created_at < ? AND (? IS NULL OR a.inbox = ?) GROUP BY a.id",
        (stamp(start), stamp(end), inbox, inbox),
    )
    return day_of([summary_of(row) for row in rows], start, end)


def day_of(arrivals: Iterable[ArrivalSummary], start: datetime, end: datetime) -> Day:
    """Compute a day's statistics from its arrivals. An arrival belongs to the hour in which it was created."""
    count = max(1, round((end.timestamp() - start.timestamp()) / HOUR.total_seconds()))
    by_hour: list[list[ArrivalSummary]] = [[] for _ in range(count)]
    for arrival in arrivals:
        at = int((arrival.created_at.timestamp() - start.timestamp()) // HOUR.total_seconds())
        by_hour[min(max(at, 0), count - 1)].append(arrival)
    begins = [
        datetime.fromtimestamp(start.timestamp() + at * HOUR.total_seconds(), start.tzinfo) for at in range(count)
    ]
    everything = [arrival for hour in by_hour for arrival in hour]
    waits = _waits(everything)
    return Day(
        hours=tuple(_hour(begin, hour) for begin, hour in zip(begins, by_hour, strict=True)),
        total=_hour(start, everything),
        p95_to_run=quantiles(waits, n=20, method="inclusive")[-1] if len(waits) > 1 else next(iter(waits), None),
    )


def _hour(start: datetime, arrivals: list[ArrivalSummary]) -> Hour:
    waits = _waits(arrivals)
    return Hour(
        start=start,
        arrivals=len(arrivals),
        files=sum(arrival.files for arrival in arrivals),
        rows=sum(arrival.rows or 0 for arrival in arrivals),
        failures=sum(arrival.bad for arrival in arrivals if arrival.state is not ArrivalState.SKIPPED),
        median_to_run=median(waits) if waits else None,
        slowest_to_run=waits[-1] if waits else None,
    )


def _waits(arrivals: Iterable[ArrivalSummary]) -> list[float]:
    return sorted(wait for arrival in arrivals if (wait := arrival.seconds_to_run) is not None)


# Figures behind the Prometheus metrics: durations of arrivals, pending files and alerts, counts of files.
#
# All are read from the ledger and the outbox at each scrape, so no code that handles files has to report anything.
# Times are in seconds.

OVERLAP = timedelta(minutes=1)
"""How far back each scrape searches: an arrival is committed up to half a minute after its `created_at`, as its writer
waits for other writers of the ledger."""


class Span(StrEnum):
    """A measured part of an arrival's processing."""

    STAGING = "staging"
    SEEN_TO_RUN = "seen_to_run"
    SEEN_TO_OUTCOME = "seen_to_outcome"


@dataclass(frozen=True)
class Timing:
    """The duration of one span of one arrival."""

    inbox: str
    span: Span
    seconds: float


@dataclass
class Changes:
    """The changes since the previous scrape."""

    timings: list[Timing] = field(default_factory=list[Timing])
    repeated: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Inbox and number of repeated announcements."""


@dataclass
class _Followed:
    """What was already reported of an arrival; no times are reported for arrivals from before the start."""

    is_new: bool
    repeats: int
    seen_at: datetime | None = None
    counted: set[Span] = field(default_factory=set[Span])


class FollowedArrivals:
    """Follows arrivals created after `since`, and all arrivals without an outcome."""

    def __init__(self, since: datetime) -> None:
        self._newest = self._since = since
        self._open: dict[str, _Followed] = {}
        self._recent: dict[str, datetime] = {}
        """The new arrivals of the last minute, which the next query finds again."""
        self._has_looked = False

    def look(self, ledger: Ledger) -> Changes:
        """Return the changes since the last call. Raises LedgerError, sqlite3.Error."""
        self._meet_new(ledger)
        self._meet_old(ledger)
        look = Changes()
        rows = {
            row["id"]: row
            for row in ledger.rows(
                "SELECT a.id, inbox, state, attempt, given_up, created_at, staged_at, receipt_at, ended_at"
                " FROM json_each(?) JOIN arrivals a ON a.id = value",
                (json.dumps(list(self._open)),),
            )
        }
        for arrival_id, followed in list(self._open.items()):
            row = rows.get(arrival_id)
            if row is not None:
                _tell(ledger, row, followed, look)
            if row is None or row["state"] in ENDED:
                del self._open[arrival_id]
        self._has_looked = True
        return look

    def _meet_new(self, ledger: Ledger) -> None:
        """Follow the arrivals created since the last call."""
        since = max(self._since, self._newest - OVERLAP)
        for row in ledger.rows("SELECT id, created_at FROM arrivals WHERE created_at >= ?", (stamp(since),)):
            if row["id"] not in self._recent:
                created = self._recent[row["id"]] = datetime.fromisoformat(row["created_at"])
                self._newest = max(self._newest, created)
                self._open[row["id"]] = _Followed(is_new=True, repeats=0)
        self._recent = {one: at for one, at in self._recent.items() if at >= self._newest - OVERLAP}

    def _meet_old(self, ledger: Ledger) -> None:
        """Follow older arrivals without an outcome, as they may be announced again."""
        unfinished = ledger.rows(f"SELECT id, attempt, given_up FROM arrivals WHERE {UNFINISHED}")
        for row in unfinished:
            if row["id"] not in self._open:
                repeats = 0 if self._has_looked else _repeats(row)
                self._open[row["id"]] = _Followed(is_new=False, repeats=repeats)


def _tell(ledger: Ledger, row: sqlite3.Row, followed: _Followed, look: Changes) -> None:
    """Add the changes of one arrival to `look`."""
    repeats = _repeats(row)
    if repeats > followed.repeats:
        look.repeated.append((row["inbox"], repeats - followed.repeats))
    followed.repeats = repeats
    if not followed.is_new or row["state"] in {ArrivalState.STAGING, ArrivalState.SKIPPED}:
        return
    if followed.seen_at is None:
        followed.seen_at = _first_seen(ledger, row["id"])
    for span, start, end in (
        (Span.STAGING, moment(row["created_at"]), moment(row["staged_at"])),
        (Span.SEEN_TO_RUN, followed.seen_at, moment(row["receipt_at"])),
        (Span.SEEN_TO_OUTCOME, followed.seen_at, moment(row["ended_at"])),
    ):
        if start is not None and end is not None and span not in followed.counted:
            followed.counted.add(span)
            look.timings.append(Timing(row["inbox"], span, max(0.0, (end - start).total_seconds())))


def _repeats(row: sqlite3.Row) -> int:
    """Return the number of repeated announcements since the arrival was created or last replayed."""
    return max(0, row["attempt"] - row["given_up"] - 1)


def _first_seen(ledger: Ledger, arrival_id: str) -> datetime | None:
    return moment(ledger.rows("SELECT min(seen_at) FROM files WHERE arrival_id = ?", (arrival_id,))[0][0])


@dataclass(frozen=True)
class PendingCounts:
    """The pending files and arrivals of one inbox; ages are 0 when there are none."""

    oldest_waiting: float = 0.0
    in_flight: int = 0
    """Arrivals without an outcome."""
    oldest_in_flight: float = 0.0


def read_pending(ledger: Ledger, inboxes: Iterable[str], now: datetime) -> dict[str, PendingCounts]:
    """Return the pending counts of these inboxes, and of any other that has arrivals without an outcome.

    Raises LedgerError, sqlite3.Error.
    """
    on_their_way = {
        row["inbox"]: row
        for row in ledger.rows(
            "SELECT inbox, count(*) AS arrivals, min(created_at) AS since FROM arrivals"
            f" WHERE {UNFINISHED} GROUP BY inbox"
        )
    }
    found: dict[str, PendingCounts] = {}
    for inbox in dict.fromkeys([*inboxes, *on_their_way]):
        row = on_their_way.get(inbox)
        found[inbox] = PendingCounts(
            _age(waiting_since(ledger, inbox), now),
            row["arrivals"] if row else 0,
            _age(moment(row["since"]) if row else None, now),
        )
    return found


@dataclass(frozen=True)
class PendingAlerts:
    """The number of undelivered alerts and of channels that fail to deliver."""

    alerts: int = 0
    failing_channels: int = 0


def read_pending_alerts(outbox: Path) -> PendingAlerts | None:
    """Read the outbox; return None if it cannot be read, which the loop `bell` reports."""
    try:
        found = read_undelivered(outbox)
    except (OutboxError, sqlite3.Error):
        return None
    return PendingAlerts(found.alerts + found.perhaps, len(found.channels))


def _age(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


QUICK_SECONDS = 0.01
"""A count that takes no longer than this runs at every scrape."""
SHARE = 0.02
LONGEST_PAUSE_SECONDS = 60.0
"""A slower count runs in the background for SHARE of the time, and at least every LONGEST_PAUSE_SECONDS, so that one
slow count does not leave old figures in place."""

_EVERY = "every"
_COUNTS = (
    "SELECT inbox, state, count(*) AS files FROM files INDEXED BY files_by_state GROUP BY inbox, state"
    # One statement, so that both counts see the same snapshot; a different index without the state, so that they are
    # independent.
    f" UNION ALL SELECT inbox, '{_EVERY}', count(*) FROM files INDEXED BY files_by_time GROUP BY inbox"
)


@dataclass(frozen=True)
class InboxTally:
    """The file counts of one inbox, made in two independent ways that must agree."""

    seen: int = 0
    """All files except withdrawn ones, counted without their states."""
    books: InboxCounts = field(default_factory=InboxCounts)
    """The same files, counted by state."""

    @property
    def imbalance(self) -> int:
        """How many seen files are missing from the counts by state; anything but 0 is a bug."""
        books = self.books
        return self.seen - (books.waiting + books.in_flight + books.loaded + books.rejected + books.failed)


@dataclass(frozen=True)
class Tally:
    """The counts of all inboxes that have files, at one moment (UTC)."""

    at: datetime
    seconds: float
    """How long the count took."""
    inboxes: Mapping[str, InboxTally]
    counted_at: float = 0.0
    """The same moment on the monotonic clock."""


def count(ledger: Ledger, clock: Clock) -> Tally:
    """Count all files; a million take about 0.2 s. Raises LedgerError, sqlite3.Error."""
    at, began = clock.utc(), clock.monotonic()
    every: dict[str, int] = {}
    states: dict[str, dict[FileState, int]] = {}
    for row in ledger.rows(_COUNTS):
        if row["state"] == _EVERY:
            every[row["inbox"]] = row["files"]
        else:
            states.setdefault(row["inbox"], {})[FileState(row["state"])] = row["files"]
    inboxes = {
        name: InboxTally(seen - states.get(name, {}).get(FileState.WITHDRAWN, 0), balance(states.get(name, {})))
        for name, seen in every.items()
    }
    return Tally(at, clock.monotonic() - began, inboxes, began)


class TallyKeeper:
    """Caches the last tally, so that no scrape waits for a million files to be counted.

    While counting is quick, every call counts anew. Otherwise a call returns the last tally and, if that is old, starts
    a thread that counts again. A call waits for a slow count only if there is no last tally.
    """

    def __init__(self, ledger_path: Path, clock: Clock) -> None:
        self._path = ledger_path
        self._clock = clock
        self._last: Tally | None = None
        self._counting: threading.Thread | None = None

    def tally(self, ledger: Ledger) -> Tally:
        """Return the latest tally. Raises LedgerError, sqlite3.Error."""
        last = self._last
        if last is None or last.seconds <= QUICK_SECONDS:
            last = self._last = count(ledger, self._clock)
        elif self._is_old(last) and (self._counting is None or not self._counting.is_alive()):
            self._counting = threading.Thread(target=self._count_aside, name="tally", daemon=True)
            self._counting.start()
        return last

    def wait(self) -> None:
        """Wait for the background count, if one is running."""
        if self._counting is not None:
            self._counting.join()

    def _is_old(self, last: Tally) -> bool:
        return self._clock.monotonic() - last.counted_at >= min(LONGEST_PAUSE_SECONDS, last.seconds / SHARE)

    def _count_aside(self) -> None:
        try:
            with Ledger(self._path, read_only=True) as ledger:
                self._last = count(ledger, self._clock)
        except (LedgerError, sqlite3.Error):
            self._last = None  # the next call counts itself and raises the error
