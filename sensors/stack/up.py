"""Start the stack in order and supervise it in the foreground until it is stopped (`just up`)."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from sensors.config.inboxes import read_inboxes
from sensors.config.settings import Settings, env_file, surrounding
from sensors.runs.api import ApiError
from sensors.runtime.dead_mans_switch import DeadMansSwitch
from sensors.stack import processes
from sensors.stack.credentials import exec_up, settle_credentials
from sensors.stack.environment import stack_environment
from sensors.stack.errors import StackError, checked_settings
from sensors.stack.health import Health, check, check_api, check_front, troubles_of_stores, unhealthy_services
from sensors.stack.orphaned_runs import OrphanedRuns, restart_orphaned_runs
from sensors.stack.prefect_setup import Commands, Deploying, apply_automations, make_work_pool
from sensors.stack.preflight import open_code, preflight
from sensors.stack.services import Service, log_file, newest_log, programs, services_of
from sensors.stack.state_dir import clear_temporary, hold_state_folder
from sensors.stack.stop import StopRequest, StopRequestedError, take_down
from sensors.stack.supervisor import Incident, Supervisor
from sensors.stack.terminal import Terminal, summary, tail

HEALTHY_SECONDS = {
    Service.SERVER: 180,
    Service.BALANCER: 30,
    Service.SERVICES: 90,
    Service.WORKER: 90,
    Service.SENSOR: 90,
}
"""How long a service may take to become healthy; the server's first start creates its database."""

_SERVER_SIDE = (Service.SERVER, Service.BALANCER, Service.SERVICES)


def up() -> int:
    """Run the stack in the foreground until SIGINT, SIGTERM or SIGHUP; return the exit status.

    Raises StackError if the stack cannot be started; services started until then have been stopped.
    """
    terminal = Terminal()
    settings = checked_settings()
    with hold_state_folder(settings, lambda notice: terminal.say(notice, "yellow")):
        _end_leftovers(settings, terminal)
        clear_temporary(settings)
        preflight(settings)
        for line in open_code(settings):
            terminal.say(line, "bold yellow")
        settings = settle_credentials(settings, terminal)
        stop = StopRequest()
        stop.listen()
        status = _run(settings, terminal, stop)
    if stop.is_restart:
        terminal.say("restarting, with the settings read anew")
        exec_up()
    return status


def _end_leftovers(settings: Settings, terminal: Terminal) -> None:
    """End processes left behind by a killed stack, which may occupy the ports. The caller holds the state folder."""
    leftovers = processes.sweep(settings.state_dir, grace_seconds=3)
    if leftovers:
        pids = ", ".join(str(process.pid) for process in leftovers)
        terminal.say(f"ended what a killed stack had left behind: pid {pids}", "yellow")


def _run(settings: Settings, terminal: Terminal, stop: StopRequest) -> int:
    environment = stack_environment(settings, surrounding())
    orphaned = OrphanedRuns(settings)

    def on_incident(incident: Incident) -> None:
        orphaned.notice(incident)
        terminal.show_incident(incident, log_file(settings, incident.program))

    switch = DeadMansSwitch(
        settings.heartbeat_url.get_secret_value(),
        settings.heartbeat_fail_url.get_secret_value(),
        lambda: unhealthy_services(settings),
    )
    with Supervisor(settings, programs(settings), environment, on_incident) as supervisor:
        try:
            commands = Commands(environment, settings.logs_dir / "setup.log", stop)
            _BringUp(settings, terminal, stop, supervisor, commands).run()
            _show_summary(settings, terminal)
            switch.start()
            return _watch(terminal, stop, supervisor, orphaned)
        except StopRequestedError:
            return 0
        finally:
            switch.stop()
            terminal.say("stopping")
            take_down(settings, supervisor)
            terminal.say("stopped")


@dataclass
class _BringUp:
    """Starts server, work pool, deployments, automations, sensor, worker and warm server: the order of a first start.

    On a machine with two cores most of the time is spent on starting Python processes, so steps that do not depend on
    each other run in parallel: once the flows are deployed, the worker starts together with the server, and the sensor
    before the automations are applied.
    """

    settings: Settings
    terminal: Terminal
    stop: StopRequest
    supervisor: Supervisor
    commands: Commands
    _began: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    _started: dict[Service, datetime] = field(default_factory=dict[Service, datetime], init=False)

    def run(self) -> None:
        """Return when all services are healthy; raises StackError, StopRequestedError."""
        try:
            self._run()
        except (ApiError, httpx.HTTPError) as error:
            log = newest_log(self.settings, Service.SERVER)
            raise StackError(f"the server does not answer any more ({error}); see {log}") from error

    def _run(self) -> None:
        deploying = Deploying(self.settings)
        # `prefect worker start` fails while no server answers; our worker waits for it.
        worker_first = deploying.done_before and self.settings.is_warm
        self.supervisor.wait_until_it_answers()
        self._start_server_side()
        if worker_first:  # the work pool exists
            self._start(Service.WORKER)
        for service in _SERVER_SIDE:
            self._wait(service)
        self._check_front()
        if self.settings.is_main:
            make_work_pool(self.settings)
        with self.terminal.waiting("looking for orphaned runs"):
            restarted = restart_orphaned_runs(self.settings, self._began, self.stop.pause)
        if restarted:
            self.terminal.step(f"{restarted} orphaned {_start(restarted)} again")
        if self.settings.is_main:
            self._prepare(deploying)
        else:
            self._start(Service.SENSOR)
        if not worker_first:
            # Not in parallel with the first deploy: a worker's first polls were seen to lock Prefect's SQLite
            # against it, so that both waited for 60 s.
            self._start(Service.WORKER)
        self._wait(Service.WORKER)
        self._wait(Service.SENSOR)
        if sys.platform == "linux" and self.settings.is_warm:
            # Started last and not waited for: its start takes two seconds of a core, and runs work without it.
            self._start(Service.WARM)

    def _start_server_side(self) -> None:
        if self.settings.is_main and self.settings.is_scale:
            from sensors.stack.prefect_setup import migrate  # only one profile needs its driver

            with self.terminal.waiting("bringing the database up to date"):
                migrate(self.settings, self.commands)
        if self.settings.has_balancer:
            self._start_first_server()
        for service in _SERVER_SIDE:
            self._start(service)

    def _check_front(self) -> None:
        if self.settings.has_server and not (front := check_front(self.settings)).healthy:
            raise StackError(
                f"the API is not protected: {front.detail}; expected sensors/stack/api_front.py in front of Prefect's "
                "server: use the version of Prefect that requirements.txt names, by `just setup`"
            )

    def _prepare(self, deploying: Deploying) -> None:
        known = deploying.is_up_to_date()
        if known:
            # The server then has the automations too, so announcements start runs.
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

    def _start_first_server(self) -> None:
        """Start one server alone first: each server writes the same rows into an empty database, and only one can."""
        self.supervisor.start(Service.SERVER, only_first=True)
        port = self.settings.api_server_ports[0]
        self._wait_for(Service.SERVER, lambda: check_api(port), "the first server")

    def _wait(self, service: Service) -> None:
        if service not in services_of(self.settings):
            return
        self._wait_for(service, lambda: self._look_at(service), f"the {service}")
        self.terminal.step(f"{service} {'are' if service is Service.SERVICES else 'is'} healthy")

    def _look_at(self, service: Service) -> Health:
        health = check(self.settings, service, self._started[service])
        if health.healthy or service is not Service.SENSOR:
            return health
        remote = [one.name for one in read_inboxes(self.settings.inboxes_file, self.settings.inbox_dir) if one.url]
        troubles = troubles_of_stores(self.settings, remote)
        for trouble in troubles:
            self.terminal.say(f"{trouble}; the sensor goes on asking", "yellow")
        return Health(healthy=True) if troubles else health

    def _wait_for(self, service: Service, look: Callable[[], Health], what: str) -> None:
        deadline = self.terminal.seconds + HEALTHY_SECONDS[service]
        with self.terminal.waiting(f"waiting for {what}"):
            while not (health := look()).healthy:
                self._give_up_on(service, health.detail, late=self.terminal.seconds > deadline)
                self.stop.pause(0.2)

    def _give_up_on(self, service: Service, detail: str, *, late: bool) -> None:
        log = newest_log(self.settings, service)
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


def _watch(terminal: Terminal, stop: StopRequest, supervisor: Supervisor, orphaned: OrphanedRuns) -> int:
    while not stop.wait(0.5):
        if not supervisor.alive:
            terminal.say(
                f"supervisord ended ({supervisor.death}): nothing watches over the services any more, so they "
                "are stopped as well; no file is lost, run `just up` again",
                "bold red",
            )
            return 1
        if restarted := orphaned.look():
            terminal.say(f"{restarted} orphaned {_start(restarted)} again: the worker was killed", "yellow")
    return 0
