"""Restart flow runs that the server shows as Pending, Running or Cancelling although no process executes them.

Abandoned runs belonged to a worker that was killed. supervisord restarts the worker, but the new worker takes only
scheduled runs: runs that the old worker was submitting or monitoring would stay Pending or Running, with no one to
report their end. A run whose process is still alive, an orphan, is left alone until the process ends.

Interrupted runs were at work when the whole stack was stopped or killed. The worker that would report their end is
gone as well (measured: such a run stays Running indefinitely).

Runs of both kinds are scheduled again. A file that such a run has already loaded is skipped by its load key.
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
class Restart:
    """A restart of a worker; `at` is UTC."""

    at: datetime
    orphans: frozenset[str]
    """The ids of the runs that had a process at that time."""
    worker: str | None = None
    """The worker's name; None if the machine has only one."""


@dataclass
class AbandonedRuns:
    """Restarts abandoned runs. `notice` may be called from any thread."""

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _noticed: SimpleQueue[Restart] = field(default_factory=SimpleQueue[Restart], init=False)
    _restarts: dict[str | None, Restart] = field(default_factory=dict[str | None, Restart], init=False)
    _next_look: datetime = field(default=datetime.max.replace(tzinfo=UTC), init=False)

    def notice(self, incident: Incident) -> None:
        """Record the restart of a worker; other incidents are ignored."""
        if incident.service is Service.WORKER and not incident.gave_up:
            orphans = frozenset(processes.flow_runs(self.settings.state_dir))
            self._noticed.put(Restart(self.now(), orphans, self._worker(incident)))

    def _worker(self, incident: Incident) -> str | None:
        return worker_name(self.settings, incident.number) if incident.number else None

    def look(self) -> int:
        """Restart the runs that are abandoned by now; return their number. Does nothing while no worker has died."""
        while not self._noticed.empty():
            restart = self._noticed.get()
            self._restarts[restart.worker] = restart
            self._next_look = restart.at + GRACE
        now = self.now()
        if not self._restarts or now < self._next_look:
            return 0
        self._next_look = now + BETWEEN_LOOKS
        # List processes before runs: a process that has ended by now has already reported its run's end, if any.
        living = processes.flow_runs(self.settings.state_dir)
        restarts = tuple(self._restarts.values())
        try:
            with open_api(self.settings, TIMEOUT_SECONDS) as api:
                found = at_work(api, self.settings)
                runs = [run for run in found if any(is_abandoned(run, one, living) for one in restarts)]
                start_again(api, runs, now, WORKER_KILLED)
        except ApiError:
            return 0  # the server is busy or restarting; the next call tries again
        orphaned = [replace(one, orphans=one.orphans & living) for one in restarts]
        self._restarts = {one.worker: one for one in orphaned if one.orphans}
        return len(runs)


def is_abandoned(run: dict[str, Any], restart: Restart, living: Collection[str]) -> bool:
    """Return whether a run at work has neither a process nor a worker that knows it.

    A run without a process that became Pending after the restart belongs to the new worker, which is about to start
    its process.
    """
    if run["id"] in living or (restart.worker and worker_of(run) not in {None, restart.worker}):
        return False
    is_orphan = run["state_type"] == "RUNNING" and run["id"] in restart.orphans
    return is_orphan or datetime.fromisoformat(run["state"]["timestamp"]) < restart.at


PATIENCE_SECONDS = 120.0
"""How long requests to a newly started server are retried. While its SQLite database is locked, a request waits for up
to 60 s and must then be repeated."""
ANSWER_SECONDS = 20.0
WORKER_LABEL = "prefect.worker.name"
"""The label with the worker's name, which the worker sets on a run before it starts the process."""
STACK_STOPPED = "The stack was stopped while"
AGAIN = "{} this run was at work; the run starts again."
CANCELLED = "{} this run was being cancelled."


def restart_interrupted_runs(settings: Settings, down_until: datetime, pause: Callable[[float], None]) -> int:
    """Restart the runs that were at work when the stack went down; return their number.

    `down_until` (UTC) is when this start began: a run that has changed its state since then is alive. No process of
    the previous stack may be left, see `marking.sweep`. Requests to a busy server are retried; `pause` waits for a
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
                    runs = [run for run in at_work(api, settings) if is_interrupted(run, down_until)]
                    restarted |= {run["id"] for run in runs}
                    start_again(api, runs, datetime.now(UTC), STACK_STOPPED)
        except ApiError as error:
            raise StackError(f"the interrupted runs cannot be started again: {error}") from error
    return len(restarted)


def _is_busy(error: BaseException) -> bool:
    """Return whether the server can be reached but cannot answer now."""
    if not isinstance(error, ApiError) or isinstance(error, NoServerError):
        return False
    return error.status is None or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def is_interrupted(run: dict[str, Any], down_until: datetime) -> bool:
    """Return whether a run that the server shows as at work entered its state before this start of the stack."""
    return datetime.fromisoformat(run["state"]["timestamp"]) < down_until


def start_again(api: PrefectApi, runs: Iterable[dict[str, Any]], now: datetime, cause: str) -> None:
    """Set each run to its next state. Raises ApiError."""
    for run in runs:
        # Forced: Prefect's orchestration rules allow no way back from Running; they rely on the process to report.
        body = {"state": next_state(run, now, cause), "force": True}
        api.post(f"/flow_runs/{run['id']}/set_state", body)


def next_state(run: dict[str, Any], now: datetime, cause: str = STACK_STOPPED) -> dict[str, Any]:
    """Return the new state of a dead run: scheduled again, or cancelled if it was being cancelled."""
    if run["state_type"] == "CANCELLING":
        return {"type": "CANCELLED", "message": CANCELLED.format(cause)}
    again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": AGAIN.format(cause)}
    return {**again, "state_details": {"scheduled_time": now.isoformat()}}


def at_work(api: PrefectApi, settings: Settings) -> list[dict[str, Any]]:
    """Return the runs that the server shows as at work on this machine. Raises ApiError."""
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
        "work_pools": {"name": {"any_": [WORK_POOL]}},
        "sort": "ID_DESC",
    }
    return [run for run in api.results("/flow_runs/filter", wanted) if is_of(settings, worker_of(run))]


def worker_of(run: dict[str, Any]) -> str | None:
    """Return the name of the worker that has a run; None until the worker has set its label."""
    labels: dict[str, str] = run.get("labels") or {}
    return labels.get(WORKER_LABEL)


def is_of(settings: Settings, worker: str | None) -> bool:
    """Return whether a worker belongs to this machine, workers of an earlier start with more workers included.

    A run without a worker label may belong to any machine. Each machine counts it as its own, or none would restart it.
    """
    if worker is None or not settings.is_scale:
        return True
    name, _, number = worker.rpartition("-")
    return name == settings.node and number.isdecimal()
