"""Run names: a run that was started for an arrival is called after its files, `orders.csv +12 @ metrics`, and tagged.

Prefect's automation can give a run neither, so it bears a made-up name until the sensor, which knows what is in the
arrival, gives it this one. That is a convenience: nothing waits for it, and nothing goes by it.
"""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from sensors.ledger import Ledger, LedgerError, announcements, arrivals
from sensors.runs.api import ApiError, PrefectApi
from sensors.runtime.clock_part import Clock

logger = logging.getLogger(__name__)

AFTER = 0.3
"""Seconds after its receipt: by then the run is at work, and the server has time for this."""
IDLE = 60.0
AT_ONCE = 20
"""How many runs are asked about in one request."""
_NAME_LIMIT = 80


@dataclass(frozen=True)
class StartedRun:
    """A run that has begun, for which arrival, and when it may be named, in seconds of the monotonic clock."""

    arrival_id: str
    run_id: str
    due: float


@dataclass
class RunNamer:
    """Gives runs their names and tags. `notice` may be called from any thread."""

    ledger: Ledger
    api: PrefectApi
    clock: Clock
    _noticed: SimpleQueue[StartedRun] = field(default_factory=SimpleQueue[StartedRun], init=False)
    _waiting: list[StartedRun] = field(default_factory=list[StartedRun], init=False)

    def notice(self, arrival_id: str, run_id: str) -> None:
        """Take note of a run that has begun."""
        self._noticed.put(StartedRun(arrival_id, run_id, self.clock.monotonic() + AFTER))

    def step(self) -> float:
        """Name the runs whose time has come; return the seconds until the next one's, or a long pause.

        A run that cannot be named keeps the name it has, and is not tried again.
        """
        while not self._noticed.empty():
            self._waiting.append(self._noticed.get())
        now = self.clock.monotonic()
        due = [one for one in self._waiting if now >= one.due][:AT_ONCE]
        self._waiting = [one for one in self._waiting if one not in due]
        try:
            self._name(due)
        except (ApiError, LedgerError, sqlite3.Error) as error:
            logger.info("%d runs keep the names that Prefect gave them: %s", len(due), error)
        return max(0.0, self._waiting[0].due - now) if self._waiting else IDLE

    def _name(self, started: Sequence[StartedRun]) -> None:
        runs = self.api.runs([one.run_id for one in started]) if started else {}
        for one in started:
            arrival, run = arrivals.get(self.ledger, one.arrival_id), runs.get(one.run_id)
            if arrival is None or run is None:
                continue
            name = run_name(arrivals.contents(self.ledger, arrival.id)[0], arrival.inbox)
            tags = dict.fromkeys([*run.tags, f"inbox:{arrival.inbox}", f"arrival:{arrival.id}"])
            self.api.name_run(run.id, name, [*tags])
            announcements.record_run_name(self.ledger, run.id, name)


def run_name(files: Sequence[str], inbox: str) -> str:
    """Return what a run is called that was started for these files.

    >>> run_name(["orders.csv", "prices.csv", "stock.csv"], "metrics")
    'orders.csv +2 @ metrics'
    """
    first = " ".join((files[0] if files else "no files").split())
    cut = first if len(first) <= _NAME_LIMIT else f"{first[: _NAME_LIMIT - 1]}…"
    more = f" +{len(files) - 1:,}" if len(files) > 1 else ""
    return f"{cut}{more} @ {inbox}"
