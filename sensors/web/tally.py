"""The tally: how many files each inbox has seen and what became of them, counted in two ways that must agree."""

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from sensors.ledger import Ledger, LedgerError
from sensors.ledger.states import FileState
from sensors.reports.inboxes import Books, balance
from sensors.runtime.clock_part import Clock

QUICK_SECONDS = 0.01
"""A tally that takes no longer is made for everybody who asks."""
SHARE = 0.02
LONGEST_PAUSE_SECONDS = 60.0
"""One that takes longer is made in the background, for this share of the time; and once a minute all the same, so that
one slow count, or a clock that was set back, does not leave the figures as they were."""

_EVERY = "every"
_COUNTS = (
    "SELECT inbox, state, count(*) AS files FROM files INDEXED BY files_by_state GROUP BY inbox, state"
    # One statement, so that both are of the same moment; another index and no state, so that they are two counts.
    f" UNION ALL SELECT inbox, '{_EVERY}', count(*) FROM files INDEXED BY files_by_time GROUP BY inbox"
)


@dataclass(frozen=True)
class InboxTally:
    """The files of one inbox."""

    seen: int = 0
    """All of them, counted without asking what became of each; not those that their owners took away again."""
    books: Books = field(default_factory=Books)
    """What became of each."""

    @property
    def imbalance(self) -> int:
        """How many files of those that were seen no entry of the books has; anything but 0 is a mistake of ours."""
        books = self.books
        return self.seen - (books.waiting + books.in_flight + books.loaded + books.rejected + books.failed)


@dataclass(frozen=True)
class Tally:
    """All inboxes that have files, at one moment (UTC)."""

    at: datetime
    seconds: float
    """How long the counting took."""
    inboxes: Mapping[str, InboxTally]
    counted_at: float = 0.0
    """The same moment by the monotonic clock."""


def count(ledger: Ledger, clock: Clock) -> Tally:
    """Count now; a million files take about 0.2 s. Raises LedgerError, sqlite3.Error."""
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
    """Keeps the last tally, so that nobody waits for a million files to be counted.

    While counting is quick every tally is new. Otherwise whoever asks gets the last one, and if that is old a thread
    makes the next; only the very first is waited for.
    """

    def __init__(self, ledger_path: Path, clock: Clock) -> None:
        self._path = ledger_path
        self._clock = clock
        self._last: Tally | None = None
        self._counting: threading.Thread | None = None

    def tally(self, ledger: Ledger) -> Tally:
        """Return the latest tally there is. Raises LedgerError, sqlite3.Error."""
        last = self._last
        if last is None or last.seconds <= QUICK_SECONDS:
            last = self._last = count(ledger, self._clock)
        elif self._is_old(last) and (self._counting is None or not self._counting.is_alive()):
            self._counting = threading.Thread(target=self._count_aside, name="tally", daemon=True)
            self._counting.start()
        return last

    def wait(self) -> None:
        """Wait until no tally is being made."""
        if self._counting is not None:
            self._counting.join()

    def _is_old(self, last: Tally) -> bool:
        return self._clock.monotonic() - last.counted_at >= min(LONGEST_PAUSE_SECONDS, last.seconds / SHARE)

    def _count_aside(self) -> None:
        try:
            with Ledger(self._path, read_only=True) as ledger:
                self._last = count(ledger, self._clock)
        except (LedgerError, sqlite3.Error):
            self._last = None  # the next who asks counts himself, and is told what is wrong
