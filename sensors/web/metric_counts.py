"""Followed arrivals: how long each took from step to step, and how often one had to be announced again.

Read off the ledger between two looks, so that nothing on the way of a file has to report: who looks seldom reads more.
"""

import json
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from sensors.ledger import Ledger
from sensors.ledger.arrivals import UNFINISHED
from sensors.ledger.database import moment, stamp
from sensors.ledger.states import ENDED, ArrivalState

OVERLAP = timedelta(minutes=1)
"""How much later than others an arrival may get into the ledger: its writer waits for them, up to half a minute."""


class Span(StrEnum):
    """What is timed of an arrival."""

    STAGING = "staging"
    SEEN_TO_RUN = "seen_to_run"
    SEEN_TO_OUTCOME = "seen_to_outcome"


@dataclass(frozen=True)
class Timing:
    """How many seconds an arrival of an inbox took for something."""

    inbox: str
    span: Span
    seconds: float


@dataclass
class Look:
    """What has happened since the look before."""

    timings: list[Timing] = field(default_factory=list[Timing])
    repeated: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """How many announcements that were repetitions an inbox has made."""


@dataclass
class _Followed:
    """What was told of an arrival already; of one from before the start no times are told."""

    is_new: bool
    repeats: int
    seen_at: datetime | None = None
    told: set[Span] = field(default_factory=set[Span])


class FollowedArrivals:
    """Follows the arrivals that are taken after a moment, and those that are on their way at the first look."""

    def __init__(self, since: datetime) -> None:
        self._newest = self._since = since
        self._open: dict[str, _Followed] = {}
        self._recent: dict[str, datetime] = {}
        """The new arrivals of the last minute, which the next look finds again."""
        self._has_looked = False

    def look(self, ledger: Ledger) -> Look:
        """Return what has happened since the last look. Raises LedgerError, sqlite3.Error."""
        self._meet_new(ledger)
        self._meet_old(ledger)
        look = Look()
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
        """Begin to follow what was taken since the last look."""
        since = max(self._since, self._newest - OVERLAP)
        for row in ledger.rows("SELECT id, created_at FROM arrivals WHERE created_at >= ?", (stamp(since),)):
            if row["id"] not in self._recent:
                created = self._recent[row["id"]] = datetime.fromisoformat(row["created_at"])
                self._newest = max(self._newest, created)
                self._open[row["id"]] = _Followed(is_new=True, repeats=0)
        self._recent = {one: at for one, at in self._recent.items() if at >= self._newest - OVERLAP}

    def _meet_old(self, ledger: Ledger) -> None:
        """Begin to follow what is on its way although it was taken before: it may be announced again."""
        unfinished = ledger.rows(f"SELECT id, attempt, given_up FROM arrivals WHERE {UNFINISHED}")
        for row in unfinished:
            if row["id"] not in self._open:
                repeats = 0 if self._has_looked else _repeats(row)
                self._open[row["id"]] = _Followed(is_new=False, repeats=repeats)


def _tell(ledger: Ledger, row: sqlite3.Row, followed: _Followed, look: Look) -> None:
    """Add to a look what has happened to one arrival."""
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
        if start is not None and end is not None and span not in followed.told:
            followed.told.add(span)
            look.timings.append(Timing(row["inbox"], span, max(0.0, (end - start).total_seconds())))


def _repeats(row: sqlite3.Row) -> int:
    """Return how many announcements of the present try were repetitions; a replay is a try of its own."""
    return max(0, row["attempt"] - row["given_up"] - 1)


def _first_seen(ledger: Ledger, arrival_id: str) -> datetime | None:
    return moment(ledger.rows("SELECT min(seen_at) FROM files WHERE arrival_id = ?", (arrival_id,))[0][0])
