"""Housekeeping: what has to be looked at now and then, with or without a server."""

from collections.abc import Sequence

from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.daemon.housekeeping import Pruner
from sensors.inbox.deadlines import Punctuality
from sensors.ledger import Ledger
from sensors.runtime.clock_part import Clock
from sensors.runtime.malloc import give_back_memory

AFTER_START_SECONDS = 5.0
"""What came while the sensor was down, or suspended, has to be seen before anything is called overdue."""
PAUSE_SECONDS = 1.0
PRUNE_SECONDS = 60.0
TRIM_SECONDS = 60.0


class Housekeeping:
    """The loop's step that tells of overdue files and deletes what is too old."""

    def __init__(self, settings: Settings, inboxes: Sequence[Inbox], clock: Clock) -> None:
        ledger = Ledger(settings.ledger_path)
        self._punctuality = Punctuality(ledger, inboxes, clock)
        self._pruner = Pruner(ledger, inboxes, clock)
        self._clock = clock
        self._not_before = clock.monotonic() + AFTER_START_SECONDS
        self._prune_due = self._trim_due = self._not_before

    def step(self) -> float:
        """Take one step of each kind that is due; return the seconds until the next."""
        now = self._clock.monotonic()
        if resumed := self._clock.resumed():
            self._not_before = max(self._not_before, resumed.monotonic + AFTER_START_SECONDS)
        if now < self._not_before:
            return self._not_before - now
        if now >= self._trim_due:
            give_back_memory()
            self._trim_due = now + TRIM_SECONDS
        told = self._punctuality.step()
        more = False
        if now >= self._prune_due:
            more = self._pruner.step()
            self._prune_due = now if more else now + PRUNE_SECONDS
        return 0.0 if told or more else PAUSE_SECONDS
