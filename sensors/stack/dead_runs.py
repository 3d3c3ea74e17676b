"""Abandoned runs: those of a worker that was killed, whose own process has died or was never started.

supervisord starts the worker again, but the new one takes up scheduled runs only: what the old one was submitting or
watching over would stay Pending or Running, and nobody would report its end. It starts again, as after a start of the
stack. A run whose process lives on, an orphan, is left alone until that has ended.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import Any

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from sensors.config.settings import Settings
from sensors.stack import processes as marking
from sensors.stack.api import open_api
from sensors.stack.errors import StackError
from sensors.stack.services import WORK_POOL, Service, worker_name
from sensors.stack.supervisor import Incident

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


# Interrupted runs: those that the server believes to be at work, though the stack was down since.
#
# Whoever stops or kills the stack ends the runs' processes with it, and the worker, which would tell the server of
# their end, is gone as well (measured: such a run stays Running for ever). They start again; a file that such a run
# had loaded already is skipped by its load key.

PAGE = 200
PATIENCE_SECONDS = 120.0
"""How long a server that has just started may take to answer. One that has its SQLite locked lets others wait for up to
60 s, and then has them come again."""
ANSWER_SECONDS = 20.0
WORKER_LABEL = "prefect.worker.name"
"""Which worker has a run: it writes that on the run before it starts the process."""
STACK_STOPPED = "The stack was stopped while"
AGAIN = "{} this run was at work; the run starts again."
CANCELLED = "{} this run was being cancelled."


def restart_interrupted_runs(settings: Settings, down_until: datetime, pause: Callable[[float], None]) -> int:
    """Have the runs start again that were at work when the stack went down; return how many.

    `down_until` (UTC) is when this start began: a run that has changed its state since is alive. Nothing may
    be left of the stack before it, see `marking.sweep`. A server that is busy is asked again, after a `pause` in
    seconds. Raises StackError, and what the pause raises.
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
        except httpx.HTTPError as error:
            raise StackError(f"the interrupted runs cannot be started again: {error}") from error
    return len(restarted)


def _is_busy(error: BaseException) -> bool:
    """Tell whether a server is there that cannot answer just now."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError)


def is_interrupted(run: dict[str, Any], down_until: datetime) -> bool:
    """Tell whether a run that the server believes to be at work was when the stack went down."""
    return datetime.fromisoformat(run["state"]["timestamp"]) < down_until


def start_again(api: httpx.Client, runs: Iterable[dict[str, Any]], now: datetime, cause: str) -> None:
    """Give each run its next state. Raises httpx.HTTPError."""
    for run in runs:
        # Forced: Prefect's rules know no way back from Running, they trust the process to report.
        body = {"state": next_state(run, now, cause), "force": True}
        api.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()


def next_state(run: dict[str, Any], now: datetime, cause: str = STACK_STOPPED) -> dict[str, Any]:
    """Return the state that an interrupted run gets: it starts again, unless it was being cancelled."""
    if run["state_type"] == "CANCELLING":
        return {"type": "CANCELLED", "message": CANCELLED.format(cause)}
    again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": AGAIN.format(cause)}
    return {**again, "state_details": {"scheduled_time": now.isoformat()}}


def at_work(api: httpx.Client, settings: Settings) -> list[dict[str, Any]]:
    """Return the runs that the server believes to be at work on this machine. Raises httpx.HTTPError."""
    return [run for run in _at_work(api) if is_of(settings, worker_of(run))]


def worker_of(run: dict[str, Any]) -> str | None:
    """Return the name of the worker that has a run; None for the moment before it has said so."""
    labels: dict[str, str] = run.get("labels") or {}
    return labels.get(WORKER_LABEL)


def is_of(settings: Settings, worker: str | None) -> bool:
    """Tell whether a worker is one of this machine's, also one of a former start that had more of them.

    Nobody else sees to a run of which no worker has said that it has it: that one may be anybody's.
    """
    if worker is None or not settings.is_scale:
        return True
    name, _, number = worker.rpartition("-")
    return name == settings.node and number.isdecimal()


def _at_work(api: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        answer = api.post(
            "/flow_runs/filter",
            json={
                "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
                "work_pools": {"name": {"any_": [WORK_POOL]}},
                "sort": "ID_DESC",
                "limit": PAGE,
                "offset": len(found),
            },
        )
        page = answer.raise_for_status().json()
        found += page
        if len(page) < PAGE:
            return found
