"""Hourly statistics of one day: arrivals, files, rows, failures and latencies."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from statistics import quantiles

from sensors.ledger import Ledger
from sensors.ledger.database import stamp
from sensors.ledger.states import ArrivalState
from sensors.reports.arrivals import SUMMARY, ArrivalSummary, summary_of

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
        median_to_run=waits[len(waits) // 2] if waits else None,
        slowest_to_run=waits[-1] if waits else None,
    )


def _waits(arrivals: Iterable[ArrivalSummary]) -> list[float]:
    return sorted(wait for arrival in arrivals if (wait := arrival.seconds_to_run) is not None)
