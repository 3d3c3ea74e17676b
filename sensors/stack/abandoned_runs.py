"""Abandoned runs: those of a worker that was killed, whose own process has died or was never started.

supervisord starts the worker again, but the new one takes up scheduled runs only: what the old one was submitting or
watching over would stay Pending or Running, and nobody would report its end. It starts again, as after a start of the
stack. A run whose process lives on, an orphan, is left alone until that has ended.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import httpx

from sensors.config.settings import Settings
from sensors.stack import processes as marking
from sensors.stack.api import open_api
from sensors.stack.dead_runs import at_work, start_again, worker_of
from sensors.stack.incidents import Incident
from sensors.stack.services import Service, worker_name

GRACE = timedelta(seconds=2)
"""How long nothing is started again: what the old worker asked of the server last may be on its way."""

BETWEEN_LOOKS = timedelta(seconds=2)
TIMEOUT_SECONDS = 3.0
"""How long the server may take to answer; a Ctrl-C has to wait for it."""

WORKER_KILLED = "The worker was killed while"


@dataclass(frozen=True)
class Restart:
    """A worker was started again: when (UTC), and which runs had a process of the old one's then."""

    at: datetime
    orphans: frozenset[str]
    worker: str | None = None
    """Its name; None where it is the only one."""


@dataclass
class AbandonedRuns:
    """Starts abandoned runs again. `notice` may be called from any thread."""

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _noticed: SimpleQueue[Restart] = field(default_factory=SimpleQueue[Restart], init=False)
    _restarts: dict[str | None, Restart] = field(default_factory=dict[str | None, Restart], init=False)
    _next_look: datetime = field(default=datetime.max.replace(tzinfo=UTC), init=False)

    def notice(self, incident: Incident) -> None:
        """Take note of a worker that was started again."""
        if incident.service is Service.WORKER and not incident.gave_up:
            orphans = frozenset(marking.flow_runs(self.settings.state_dir))
            self._noticed.put(Restart(self.now(), orphans, self._worker(incident)))

    def _worker(self, incident: Incident) -> str | None:
        return worker_name(self.settings, incident.number) if incident.number else None

    def look(self) -> int:
        """Start again what is abandoned by now and return how many runs; costs nothing while no worker has died."""
        while not self._noticed.empty():
            restart = self._noticed.get()
            self._restarts[restart.worker] = restart
            self._next_look = restart.at + GRACE
        now = self.now()
        if not self._restarts or now < self._next_look:
            return 0
        self._next_look = now + BETWEEN_LOOKS
        # The processes first: one that is gone by now has told the server of its run's end, if it came to one.
        living = marking.flow_runs(self.settings.state_dir)
        restarts = tuple(self._restarts.values())
        try:
            with open_api(self.settings, TIMEOUT_SECONDS) as api:
                found = at_work(api, self.settings)
                runs = [run for run in found if any(is_abandoned(run, one, living) for one in restarts)]
                start_again(api, runs, now, WORKER_KILLED)
        except httpx.HTTPError:
            return 0  # the server is busy, or is being started again as well
        orphaned = [replace(one, orphans=one.orphans & living) for one in restarts]
        self._restarts = {one.worker: one for one in orphaned if one.orphans}
        return len(runs)


def is_abandoned(run: dict[str, Any], restart: Restart, living: Collection[str]) -> bool:
    """Tell whether a run at work has neither a process nor a worker that knows of it.

    A run without a process that is Pending since the restart is the new worker's, which has yet to start one.
    """
    if run["id"] in living or (restart.worker and worker_of(run) not in {None, restart.worker}):
        return False
    is_orphan = run["state_type"] == "RUNNING" and run["id"] in restart.orphans
    return is_orphan or datetime.fromisoformat(run["state"]["timestamp"]) < restart.at
