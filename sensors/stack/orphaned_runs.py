"""Restart orphaned runs: flow runs that the server shows as at work on this machine although they have no process here.

A run is *orphaned* if the server shows it as Pending, Running or Cancelling, and no process of this machine executes
it. There are two causes:

- The worker was killed. supervisord restarts it, but the new worker takes only scheduled runs: those that the old
  worker was submitting or monitoring would keep their state indefinitely. A run whose process has survived the worker
  is not orphaned until the process ends.
- The whole stack was stopped or killed (measured: such a run stays Running indefinitely).

Orphaned runs are scheduled again. A file that such a run has already loaded is skipped by its load key. The facts are
from `processes`; a *lost* run, of which the server has no heartbeat, is found by `sensors.runs.facts`.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from queue import SimpleQueue
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from sensors.config.settings import Settings
from sensors.runs.api import ApiError, NoServerError, PrefectApi, open_api
from sensors.stack import processes
from sensors.stack.errors import StackError
from sensors.stack.services import WORK_POOL, Service, worker_name
from sensors.stack.supervisor import Incident

GRACE = timedelta(seconds=2)
"""Delay before runs are restarted: the old worker's last requests may still be on their way to the server."""

BETWEEN_LOOKS = timedelta(seconds=2)
TIMEOUT_SECONDS = 3.0
"""Request timeout; Ctrl-C has to wait for it."""

WORKER_KILLED = "The worker was killed while"


@dataclass(frozen=True)
class WorkerDeath:
    """The end of one worker of this machine, or of all; `at` is UTC."""

    at: datetime
    survivors: frozenset[str] = frozenset()
    """The ids of the runs that had a process at that time."""
    worker: str | None = None
    """The worker's name; None for every worker of this machine."""


@dataclass
class OrphanedRuns:
    """Restarts the runs that a killed worker has orphaned. `notice` may be called from any thread."""

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _noticed: SimpleQueue[WorkerDeath] = field(default_factory=SimpleQueue[WorkerDeath], init=False)
    _deaths: dict[str | None, WorkerDeath] = field(default_factory=dict[str | None, WorkerDeath], init=False)
    _next_look: datetime = field(default=datetime.max.replace(tzinfo=UTC), init=False)

    def notice(self, incident: Incident) -> None:
        """Record the restart of a worker; other incidents are ignored."""
        if incident.service is Service.WORKER and not incident.gave_up:
            worker = worker_name(self.settings, incident.number) if incident.number else None
            survivors = frozenset(processes.flow_runs(self.settings.state_dir))
            self._noticed.put(WorkerDeath(self.now(), survivors, worker))

    def look(self) -> int:
        """Restart the runs that are orphaned by now; return their number. Does nothing while no worker has died."""
        while not self._noticed.empty():
            death = self._noticed.get()
            self._deaths[death.worker] = death
            self._next_look = death.at + GRACE
        now = self.now()
        if not self._deaths or now < self._next_look:
            return 0
        self._next_look = now + BETWEEN_LOOKS
        # List processes before runs: a process that has ended by now has already reported its run's end, if any.
        living = processes.flow_runs(self.settings.state_dir)
        try:
            with open_api(self.settings, TIMEOUT_SECONDS) as api:
                runs = orphaned_runs(api, self.settings, self._deaths.values(), living)
                start_again(api, runs, now, WORKER_KILLED)
        except ApiError:
            return 0  # the server is busy or restarting; the next call tries again
        left = [replace(one, survivors=one.survivors & living) for one in self._deaths.values()]
        self._deaths = {one.worker: one for one in left if one.survivors}
        return len(runs)


def orphaned_runs(
    api: PrefectApi, settings: Settings, deaths: Collection[WorkerDeath], living: Collection[str]
) -> list[dict[str, Any]]:
    """Return the runs of this machine that one of these deaths has orphaned. Raises ApiError.

    `living` has the ids of the runs with a process.
    """
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "sort": "ID_DESC",
    }
    at_work = api.results("/flow_runs/filter", wanted)
    ours = [run for run in at_work if is_of(settings, worker_of(run))]
    return [run for run in ours if any(is_orphaned(run, death, living) for death in deaths)]


def is_orphaned(run: dict[str, Any], death: WorkerDeath, living: Collection[str] = ()) -> bool:
    """Return whether a run at work on this machine has neither a process nor a worker that knows it.

    A run without a process that became Pending after the death belongs to the new worker, which is about to start its
    process.
    """
    if run["id"] in living or death.worker not in {None, worker_of(run)}:
        return False
    has_survived = run["state_type"] == "RUNNING" and run["id"] in death.survivors
    return has_survived or datetime.fromisoformat(run["state"]["timestamp"]) < death.at


PATIENCE_SECONDS = 120.0
"""How long requests to a newly started server are retried. While its SQLite database is locked, a request waits for up
to 60 s and must then be repeated."""
ANSWER_SECONDS = 20.0
WORKER_LABEL = "prefect.worker.name"
"""The label with the worker's name, which the worker sets on a run before it starts the process."""
STACK_STOPPED = "The stack was stopped while"
AGAIN = "{} this run was at work; the run starts again."
CANCELLED = "{} this run was being cancelled."


def restart_orphaned_runs(settings: Settings, down_until: datetime, pause: Callable[[float], None]) -> int:
    """Restart the runs that were at work when the stack went down; return their number.

    `down_until` (UTC) is when this start began: a run that has changed its state since then is alive. No process of
    the previous stack may be left, see `processes.sweep`. Requests to a busy server are retried; `pause` waits for a
    number of seconds. Raises StackError, and the errors that `pause` raises.
    """
    asking = Retrying(
        retry=retry_if_exception(_is_busy),
        wait=wait_fixed(1),
        stop=stop_after_delay(PATIENCE_SECONDS),
        sleep=pause,
        reraise=True,
    )
    restarted: set[str] = set()
    with open_api(settings, timeout_seconds=ANSWER_SECONDS) as api:
        try:
            for attempt in asking:
                with attempt:
                    runs = orphaned_runs(api, settings, [WorkerDeath(down_until)], living=())
                    restarted |= {run["id"] for run in runs}
                    start_again(api, runs, datetime.now(UTC), STACK_STOPPED)
        except ApiError as error:
            raise StackError(f"the orphaned runs cannot be started again: {error}") from error
    return len(restarted)


def _is_busy(error: BaseException) -> bool:
    """Return whether the server can be reached but cannot answer now."""
    if not isinstance(error, ApiError) or isinstance(error, NoServerError):
        return False
    return error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def start_again(api: PrefectApi, runs: Iterable[dict[str, Any]], now: datetime, cause: str) -> None:
    """Set each run to its next state. Raises ApiError."""
    for run in runs:
        # Forced: Prefect's orchestration rules allow no way back from Running; they rely on the process to report.
        body = {"state": next_state(run, now, cause), "force": True}
        api.post(f"/flow_runs/{run['id']}/set_state", body)


def next_state(run: dict[str, Any], now: datetime, cause: str = STACK_STOPPED) -> dict[str, Any]:
    """Return the new state of an orphaned run: scheduled again, or cancelled if it was being cancelled."""
    if run["state_type"] == "CANCELLING":
        return {"type": "CANCELLED", "message": CANCELLED.format(cause)}
    again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": AGAIN.format(cause)}
    return {**again, "state_details": {"scheduled_time": now.isoformat()}}


def worker_of(run: dict[str, Any]) -> str | None:
    """Return the name of the worker that has a run; None until the worker has set its label."""
    labels: dict[str, str] = run.get("labels") or {}
    return labels.get(WORKER_LABEL)


def is_of(settings: Settings, worker: str | None) -> bool:
    """Return whether a worker belongs to this machine, workers of an earlier start with more workers included.

    With several machines, a run without a worker label may just be starting on another one. It is left alone: if its
    worker has died, the sensor finds the run lost (`sensors.runs.facts`) or shows it as waiting.
    """
    if not settings.is_scale:
        return True
    name, _, number = (worker or "").rpartition("-")
    return name == settings.node and number.isdecimal()
