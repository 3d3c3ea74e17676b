"""Delete old arrivals after their retention, report overdue files, and return free memory to the system.

All of this works with or without a server.
"""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.inbox.deadlines import OverdueCheck
from sensors.ledger import Ledger, maintenance
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_inbox
from sensors.runtime.malloc import give_back_memory

logger = logging.getLogger(__name__)

AT_ONCE = 20
"""Arrivals deleted per step."""


@dataclass(frozen=True)
class Pruner:
    """Deletes loaded and skipped arrivals that are older than their inbox keeps them, with their ledger rows."""

    ledger: Ledger
    inboxes: Sequence[Inbox]
    clock: Clock

    def step(self) -> bool:
        """Delete some of the old arrivals; return whether there may be more. Raises OSError."""
        more = [self._prune(inbox, inbox.keep_days) for inbox in self.inboxes if inbox.keep_days]
        return any(more)

    def _prune(self, inbox: Inbox, keep_days: float) -> bool:
        before = self.clock.utc() - timedelta(days=keep_days)
        old = maintenance.prunable(self.ledger, inbox.name, before, AT_ONCE)
        for arrival_id, folder in old:
            # One transaction, so that no one can have the arrival announced again while its files are deleted.
            with self.ledger.transaction():
                if maintenance.forget(self.ledger, arrival_id):
                    if folder.exists():
                        shutil.rmtree(folder)
                    kill_point("files-pruned")
            with suppress(OSError):
                folder.parent.rmdir()  # the day's folder, if it is empty
        if old:
            logger.info(
                "inbox %s: %d arrivals older than %g days are deleted",
                inbox.name,
                len(old),
                keep_days,
                extra=about_inbox(inbox.name),
            )
        else:
            maintenance.forget_leftovers(self.ledger, inbox.name, before)
        return len(old) == AT_ONCE


AFTER_START_SECONDS = 5.0
"""Before a file is called overdue, the sensor has to see the files that came while it was down or suspended."""
PAUSE_SECONDS = 1.0
PRUNE_SECONDS = 60.0
TRIM_SECONDS = 60.0


class Housekeeping:
    """The step of a loop that reports overdue files, deletes old arrivals and trims memory."""

    def __init__(self, settings: Settings, inboxes: Sequence[Inbox], clock: Clock) -> None:
        ledger = Ledger(settings.ledger_path)
        self._punctuality = OverdueCheck(ledger, inboxes, clock)
        self._pruner = Pruner(ledger, inboxes, clock)
        self._clock = clock
        self._not_before = clock.monotonic() + AFTER_START_SECONDS
        self._prune_due = self._trim_due = self._not_before

    def step(self) -> float:
        """Do the tasks that are due; return the seconds until the next step."""
        now = self._clock.monotonic()
        if resumed := self._clock.resumed():
            self._not_before = max(self._not_before, resumed.monotonic + AFTER_START_SECONDS)
        if now < self._not_before:
            return self._not_before - now
        if now >= self._trim_due:
            give_back_memory()
            self._trim_due = now + TRIM_SECONDS
        changed = self._punctuality.step()
        more = False
        if now >= self._prune_due:
            more = self._pruner.step()
            self._prune_due = now if more else now + PRUNE_SECONDS
        return 0.0 if changed or more else PAUSE_SECONDS
