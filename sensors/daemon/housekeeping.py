"""Retention: arrivals that were loaded or skipped long ago are deleted, with what the ledger knows of them."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sensors.config.inboxes import Inbox
from sensors.ledger import Ledger, pruning
from sensors.runtime.clock_part import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_inbox

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
