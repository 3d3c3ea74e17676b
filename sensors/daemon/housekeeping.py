"""Retention: arrivals that were loaded or skipped long ago are deleted, with what the ledger knows of them."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sensors.config.inboxes import Inbox
from sensors.config.settings import Settings
from sensors.inbox.deadlines import Punctuality
from sensors.ledger import Ledger
from sensors.ledger import maintenance as pruning
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_inbox
from sensors.runtime.malloc import give_back_memory

logger = logging.getLogger(__name__)

AT_ONCE = 20
"""How many arrivals are deleted in one step."""


@dataclass(frozen=True)
class Pruner:
    """Deletes what the inboxes do not want kept any longer."""

    ledger: Ledger
    inboxes: Sequence[Inbox]
    clock: Clock

    def step(self) -> bool:
        """Delete some of what is too old; say whether there may be more. Raises OSError."""
        more = [self._prune(inbox, inbox.keep_days) for inbox in self.inboxes if inbox.keep_days]
        return any(more)

    def _prune(self, inbox: Inbox, keep_days: float) -> bool:
        before = self.clock.utc() - timedelta(days=keep_days)
        old = pruning.prunable(self.ledger, inbox.name, before, AT_ONCE)
        for arrival_id, folder in old:
            # In one transaction, so that nobody has the arrival announced again while its files go.
            with self.ledger.transaction():
                if pruning.forget(self.ledger, arrival_id):
                    if folder.exists():
                        shutil.rmtree(folder)
                    kill_point("files-pruned")
            with suppress(OSError):
                folder.parent.rmdir()  # the day's folder, when it is empty
        if old:
            logger.info(
                "inbox %s: %d arrivals older than %g days are deleted",
                inbox.name,
                len(old),
                keep_days,
                extra=about_inbox(inbox.name),
            )
        else:
            pruning.forget_leftovers(self.ledger, inbox.name, before)
        return len(old) == AT_ONCE


# Housekeeping: what has to be looked at now and then, with or without a server.

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
