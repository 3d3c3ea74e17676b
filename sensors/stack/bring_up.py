"""Bringing the stack up, in order, and watching over it until somebody stops it."""

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from sensors.inbox import read_inboxes
from sensors.settings import Settings, env_file
from sensors.stack import marking
from sensors.stack.abandoned_runs import AbandonedRuns
from sensors.stack.configuration import checked_settings
from sensors.stack.credentials import ensure_credentials
from sensors.stack.environment import stack_environment, surrounding
from sensors.stack.errors import StackError
from sensors.stack.health import check
from sensors.stack.incidents import Incident
from sensors.stack.interrupted_runs import restart_interrupted_runs
from sensors.stack.preflight import preflight
from sensors.stack.preparation import Commands, Deploying, apply_automations, make_work_pool
from sensors.stack.services import Service, log_file, programs
from sensors.stack.state_folder import hold_state_folder
from sensors.stack.stopping import StopRequest, StopRequestedError, take_down
from sensors.stack.summary import summary
from sensors.stack.supervision import Supervisor
from sensors.stack.terminal import Terminal, tail

HEALTHY_SECONDS = {Service.SERVER: 180, Service.WORKER: 90, Service.SENSOR: 90}
"""How long a service has to become healthy; the server's first start makes its database."""


def up() -> int:
    """Run the stack in the foreground until SIGINT, SIGTERM or SIGHUP; return the exit status.

    Raises StackError when it cannot be brought up; whatever was started by then has been stopped.
    """
    terminal = Terminal()
    settings = checked_settings()
    with hold_state_folder(settings):
        _end_leftovers(settings, terminal)
        preflight(settings)
        access = ensure_credentials(settings, env_file())
        for notice in access.notices:
            terminal.say(notice, "bold yellow")
        stop = StopRequest()
        stop.listen()
        return _run(access.settings, terminal, stop)


def _end_leftovers(settings: Settings, terminal: Terminal) -> None:
    """End what a stack that was killed has left, which may have our ports; nobody else holds the folder."""
    leftovers = marking.sweep(settings.state_dir, grace_seconds=3)
    if leftovers:
        pids = ", ".join(str(process.pid) for process in leftovers)
        terminal.say(f"ended what a killed stack had left behind: pid {pids}", "yellow")


def _run(settings: Settings, terminal: Terminal, stop: StopRequest) -> int:
    environment = stack_environment(settings, surrounding())
    abandoned = AbandonedRuns(settings)

    def tell(incident: Incident) -> None:
        abandoned.notice(incident)
        terminal.show_incident(incident, log_file(settings, incident.service))

    with Supervisor(settings, programs(settings), environment, tell) as supervisor:
        try:
            commands = Commands(environment, settings.logs_dir / "setup.log", stop)
            _BringUp(settings, terminal, stop, supervisor, commands).run()
            _show_summary(settings, terminal)
            return _watch(terminal, stop, supervisor, abandoned)
        except StopRequestedError:
            return 0
        finally:
            terminal.say("stopping")
            take_down(settings, supervisor)
            terminal.say("stopped")


@dataclass
class _BringUp:
    """The order: server, work pool, deployments, automations, worker, sensor, warm server.

    On a machine with two cores the time goes into starting Python processes, so whatever does not need
    another one's result is started next to it.
    """

    settings: Settings
    terminal: Terminal
    stop: StopRequest
    supervisor: Supervisor
    commands: Commands
    _began: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    _started: dict[Service, datetime] = field(default_factory=dict[Service, datetime], init=False)

    def run(self) -> None:
        """Return when everything is healthy; raises StackError, StopRequestedError."""
        try:
            self._run()
        except httpx.HTTPError as error:
            log = log_file(self.settings, Service.SERVER)
            raise StackError(f"the server does not answer any more ({error}); see {log}") from error

    def _run(self) -> None:
        deploying = Deploying(self.settings)
        warm = deploying.done_before
        self.supervisor.wait_until_it_answers()
        self._start(Service.SERVER)
        if warm:
            # Its work pool exists; it waits for the server by itself.
            self._start(Service.WORKER)
        self._wait(Service.SERVER)
        make_work_pool(self.settings)
        if restarted := restart_interrupted_runs(self.settings, self._began):
            self.terminal.step(f"{restarted} interrupted {_start(restarted)} again")
        self._prepare(deploying)
        if not warm:
            # Not next to the first deploy: a worker's first polls have been seen to lock Prefect's SQLite
            # against it, and both waited for 60 s.
            self._start(Service.WORKER)
        self._wait(Service.WORKER)
        self._wait(Service.SENSOR)
        if sys.platform == "linux":
            # Last, and nobody waits for it: it takes two seconds of a core, and runs work without it.
            self._start(Service.WARM)

    def _prepare(self, deploying: Deploying) -> None:
        known = deploying.is_up_to_date()
        if known:
            # Then its automations are there as well, and an announcement finds them.
            self._start(Service.SENSOR)
        else:
            with self.terminal.waiting("deploying the flows"):
                deploying.deploy(self.commands)
            self.terminal.step("flows are deployed")
        with self.terminal.waiting("applying the automations"):
            apply_automations(self.commands)
        self.terminal.step("automations are applied")
        if not known:
            self._start(Service.SENSOR)

    def _start(self, service: Service) -> None:
        self._started[service] = datetime.now(UTC)
        self.supervisor.start(service)

    def _wait(self, service: Service) -> None:
        allowed = HEALTHY_SECONDS[service]
        deadline = self.terminal.seconds + allowed
        with self.terminal.waiting(f"waiting for the {service}"):
            while not (health := check(self.settings, service, self._started[service])).healthy:
                self._give_up_on(service, health.detail, late=self.terminal.seconds > deadline)
                self.stop.pause(0.2)
        self.terminal.step(f"{service} is healthy")

    def _give_up_on(self, service: Service, detail: str, *, late: bool) -> None:
        log = log_file(self.settings, service)
        if not self.supervisor.alive:
            raise StackError(f"supervisord ended ({self.supervisor.death}); run `just up` again")
        if incident := self.supervisor.given_up(service):
            raise StackError(f"{incident.message}; put right what {log} says and run `just up` again")
        if late:
            raise StackError(
                f"the {service} was not healthy after {HEALTHY_SECONDS[service]} s: {detail}; last lines of {log}:",
                *(f"    {line}" for line in tail(log)),
            )


def _show_summary(settings: Settings, terminal: Terminal) -> None:
    terminal.say(f"\neverything is healthy after {terminal.seconds:.1f} s\n", "bold green")
    inboxes = read_inboxes(settings.inboxes_file, settings.inbox_dir)
    for name, value in summary(settings, inboxes, env_file()):
        terminal.say(f"{name:>10}  {value}")
    terminal.say("")


def _start(runs: int) -> str:
    return "run starts" if runs == 1 else "runs start"


def _watch(terminal: Terminal, stop: StopRequest, supervisor: Supervisor, abandoned: AbandonedRuns) -> int:
    while not stop.wait(0.5):
        if not supervisor.alive:
            terminal.say(
                f"supervisord ended ({supervisor.death}): nobody watches over the services any more, so they "
                "are stopped as well; no file is lost, run `just up` again",
                "bold red",
            )
            return 1
        if restarted := abandoned.look():
            terminal.say(f"{restarted} {_start(restarted)} again that the worker had left behind", "yellow")
    return 0
