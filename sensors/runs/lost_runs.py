"""Lost runs: Prefect believes them to be at work, but the process is gone, and so is the worker that would say so.

Prefect's engine sends a heartbeat every PREFECT_FLOWS_HEARTBEAT_FREQUENCY seconds (30 here, the least it takes). A run
without one for three times as long is told to Prefect as crashed, and then treated like any other crash. A run that
is alive all the same does no harm: its files are loaded once, by whichever comes first.

After the sensor itself was suspended every run has its whole time again: it may have been suspended as well.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sensors.runs.api import RUN_RESOURCE, PrefectApi, Run
from sensors.runtime.clock_part import Clock
from sensors.runtime.json_logging import about_arrival

logger = logging.getLogger(__name__)

HEARTBEAT = "prefect.flow-run.heartbeat"
SILENT_FOR = timedelta(seconds=100)
UNSTARTED_FOR = timedelta(seconds=120)
"""How long a run may be Pending: its process is started in seconds, on a busy machine in half a minute."""


@dataclass(frozen=True)
class LostRuns:
    """Tells Prefect of the runs that are lost."""

    api: PrefectApi
    clock: Clock

    def report(self, runs: Iterable[Run]) -> None:
        """Have Prefect know which of these runs have crashed. Raises ApiError."""
        now = self.clock.utc()
        for run in runs:
            reason = self._loss(run, now)
            # Evidence that was gathered before a suspension says nothing about the time after it.
            if reason and self.clock.not_before_resumed(now) == now:
                about = about_arrival(run.arrival_id) if run.arrival_id else None
                logger.warning("run %s is lost: %s", run.name, reason, extra=about)
                self.api.crash(run.id, reason)

    def _loss(self, run: Run, now: datetime) -> str:
        # While the server was not reached, no heartbeat could reach it either.
        quiet = now - self.clock.not_before_resumed(max(run.since, self.api.unreached_at or run.since))
        if run.state_type == "PENDING" and quiet > UNSTARTED_FOR:
            return f"its process has not started for {UNSTARTED_FOR.seconds} s"
        if run.state_type == "RUNNING" and quiet > SILENT_FOR:
            heard = self.api.has_event(HEARTBEAT, f"{RUN_RESOURCE}{run.id}", since=now - SILENT_FOR)
            return "" if heard else f"its process has given no sign of life for {SILENT_FOR.seconds} s"
        return ""
