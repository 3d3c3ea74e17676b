"""Run the stack's services under supervisord, a child process, and report when one dies, restarts or is given up.

Services are started and stopped through supervisord's XML-RPC API. Incidents are read from its log, the only place
where supervisord names the signal that ended a process; the log lines are those of supervisor 4.3
(supervisor/process.py: `finish`, `spawn`, `transition`).
"""

import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self
from xmlrpc.client import Fault, ServerProxy

from supervisor.states import RUNNING_STATES  # pyright: ignore[reportMissingTypeStubs]
from supervisor.xmlrpc import Faults, SupervisorTransport  # pyright: ignore[reportMissingTypeStubs]

from sensors.config.settings import Settings
from sensors.stack.environment import SERVER_SECRETS
from sensors.stack.errors import StackError
from sensors.stack.services import STOP_SECONDS, Program, Service, program_name

RESTART_LIMIT = 5
"""How many times in a row a service that dies early is restarted before it is given up."""

EARLY_SECONDS = 30
"""A service that runs longer than this has started well; its restarts are then counted from 0 again."""

_SERVICES = "|".join(Service)
_NAME = rf"(?P<name>(?P<service>{_SERVICES})(-(?P<number>\d+))?)"
_DIED = re.compile(rf"exited: {_NAME} \((?P<how>.+); (not )?expected\)")
_SPAWNED = re.compile(rf"spawned: '{_NAME}' with pid (?P<pid>\d+)")
_STARTED_WELL = re.compile(rf"success: {_NAME} entered RUNNING state")
_GAVE_UP = re.compile(rf"gave up: {_NAME} ")


@dataclass(frozen=True)
class Incident:
    """A service's process stopped and was restarted, or with `gave_up` will not be restarted."""

    service: Service
    message: str
    gave_up: bool = False
    number: int | None = None
    """The number of the process, for a service that may have several."""

    @property
    def program(self) -> str:
        """The name of the program that died."""
        return program_name(self.service, self.number)


@dataclass
class _Past:
    death: str = ""
    early_deaths: int = 0
    started_well: bool = False


@dataclass
class Incidents:
    """Turns supervisord's log lines into incidents and counts the early deaths of each program.

    >>> incidents = Incidents()
    >>> incidents.read("WARN exited: sensor (terminated by SIGKILL; not expected)")
    >>> incidents.read("INFO spawned: 'sensor' with pid 4711").message
    'sensor stopped (killed by SIGKILL); restarted, 1 of 5'
    """

    _pasts: defaultdict[str, _Past] = field(default_factory=lambda: defaultdict[str, _Past](_Past))

    def read(self, line: str) -> Incident | None:
        """Return the incident that a line completes, or None."""
        if match := _DIED.search(line):
            past = self._pasts[match["name"]]
            past.death = match["how"].replace("terminated by", "killed by")
            past.early_deaths = 0 if past.started_well else past.early_deaths + 1
            past.started_well = False
        elif match := _STARTED_WELL.search(line):
            past = self._pasts[match["name"]]
            past.started_well = True
        elif match := _SPAWNED.search(line):
            return self._restarted(match["name"], _which(match))
        elif match := _GAVE_UP.search(line):
            return self._given_up(match["name"], _which(match))
        return None

    def _restarted(self, name: str, which: tuple[Service, int | None]) -> Incident | None:
        past = self._pasts[name]
        if not past.death:
            return None
        count = f", {past.early_deaths} of {RESTART_LIMIT}" if past.early_deaths else ""
        message = f"{name} stopped ({past.death}); restarted{count}"
        past.death = ""
        service, number = which
        return Incident(service, message, number=number)

    def _given_up(self, name: str, which: tuple[Service, int | None]) -> Incident:
        past = self._pasts[name]
        message = f"{name} stopped ({past.death or 'it could not be started'}) and is given up"
        service, number = which
        return Incident(service, f"{message} after {RESTART_LIMIT} restarts", gave_up=True, number=number)


def _which(match: re.Match[str]) -> tuple[Service, int | None]:
    return Service(match["service"]), int(match["number"]) if match["number"] else None


START_SECONDS = 10.0
CLOSE_SECONDS = STOP_SECONDS + 3
"""Longer than supervisord takes to stop the remaining services; it checks on them once a second."""

DIE_WITH_PARENT = (sys.executable, "-m", "sensors.stack.die_with_parent")
"""Command prefix for a Python module that must not outlive this process: see sensors/stack/die_with_parent.py."""

_NOT_FOR_FLOWS = ("HEARTBEAT_URL", "HEARTBEAT_FAIL_URL")
_RUNS_FLOWS = (Service.WORKER, Service.WARM)

# The file contains no path of the installation, because `;`, `#` and `%` in a path would be read as syntax. The
# services' folders are passed through the environment, and supervisord's working directory is the log folder.
_SUPERVISORD = """\
[supervisord]
nodaemon=true
umask=077
logfile=supervisor.log
logfile_maxbytes=10MB
logfile_backups=3
pidfile=%(here)s/supervisord.pid

[unix_http_server]
file=%(here)s/rpc.sock

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""


def configuration(programs: Sequence[Program]) -> str:
    """Return supervisord's configuration for programs, given in start order.

    A service that dies within EARLY_SECONDS is restarted after 1, 2, 3... seconds, up to RESTART_LIMIT times in a
    row. A service that dies later is restarted immediately, without a limit. When supervisord shuts down, it stops the
    services in reverse start order.
    """
    return "\n".join([_SUPERVISORD, *(_program(program, place) for place, program in enumerate(programs))])


def _program(program: Program, place: int) -> str:
    return f"""\
[program:{program.name}]
command={_without_secrets(program)}python -m sensors.stack.die_with_parent {" ".join(program.arguments)}
directory=%(ENV_{_folder_variable(program)})s
umask=077
priority={place}
autostart=false
autorestart=true
startsecs={EARLY_SECONDS}
startretries={RESTART_LIMIT}
stopwaitsecs={STOP_SECONDS}
killasgroup=true
redirect_stderr=true
stdout_logfile={program.name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def _without_secrets(program: Program) -> str:
    """Return the `env -u` prefix that keeps server secrets from flows, which anyone may write."""
    if program.service not in _RUNS_FLOWS:
        return ""
    return " ".join(["env", *(f"-u {name}" for name in (*SERVER_SECRETS, *_NOT_FOR_FLOWS)), ""])


def _folder_variable(program: Program) -> str:
    return f"BLUEPRINT_{program.service.upper()}_FOLDER"


class Supervisor:
    """supervisord as a child process, in its own session so that Ctrl-C reaches only this process.

    Its socket is in a private temporary folder, because the path of a Unix socket is limited to 107 bytes and the path
    of a state folder may be longer. `on_incident` is called with each incident, from a thread.
    """

    def __init__(
        self,
        settings: Settings,
        programs: Sequence[Program],
        environment: dict[str, str],
        on_incident: Callable[[Incident], None],
    ) -> None:
        self._on_incident = on_incident
        self._programs = tuple(programs)
        self._given_up: dict[Service, Incident] = {}
        self._said: deque[str] = deque(maxlen=10)
        self._private = tempfile.TemporaryDirectory(prefix="blueprint-", ignore_cleanup_errors=True)
        here = Path(self._private.name)
        (here / "supervisord.conf").write_text(configuration(programs), "utf-8")
        folders = {_folder_variable(program): str(program.folder) for program in programs}
        self._process = subprocess.Popen(
            [*DIE_WITH_PARENT, "supervisor.supervisord", "-c", str(here / "supervisord.conf")],
            env={**environment, **folders},
            cwd=settings.logs_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="supervisord", daemon=True)
        self._reader.start()
        self._socket = here / "rpc.sock"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether supervisord is running."""
        return self._process.poll() is None

    @property
    def death(self) -> str:
        """The signal or exit status that ended supervisord; waits for the end."""
        status = self._process.wait()
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"

    def given_up(self, service: Service) -> Incident | None:
        """Return the incident after which a service is no longer restarted, or None."""
        return self._given_up.get(service)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call supervisord's API over a new connection each time, as a broken connection cannot be reused."""
        transport: Any = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        with ServerProxy("http://localhost", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def wait_until_it_answers(self) -> None:
        """Wait until supervisord's API answers; raises StackError."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.alive:
            try:
                self._call("getState")
            except (OSError, HTTPException):
                time.sleep(0.05)
            else:
                return
        raise StackError("supervisord did not start; it said:", *(f"    {line}" for line in self._said))

    def start(self, service: Service, *, only_first: bool = False) -> None:
        """Start a service's programs; supervisord restarts a program that dies immediately. Raises StackError."""
        for name in self._names(service)[: 1 if only_first else None]:
            try:
                self._call("startProcess", name, False)
            except Fault as fault:
                if fault.faultCode not in {Faults.SPAWN_ERROR, Faults.ALREADY_STARTED}:
                    raise StackError(f"{name} cannot be started: {fault.faultString}") from fault

    def ask_to_stop(self, service: Service) -> None:
        """Have supervisord stop a service, and kill it after STOP_SECONDS; does not wait."""
        for name in self._names(service):
            # The service or supervisord may not be running.
            with suppress(Fault, OSError, HTTPException):
                self._call("stopProcess", name, False)

    def is_running(self, service: Service) -> bool:
        """Return whether a service has a process, starting and stopping ones included."""
        return any(map(self._runs, self._names(service)))

    def _runs(self, name: str) -> bool:
        try:
            info = self._call("getProcessInfo", name)
        except (Fault, OSError, HTTPException):
            return False
        return bool(info["pid"]) or info["state"] in RUNNING_STATES

    def _names(self, service: Service) -> list[str]:
        return [program.name for program in self._programs if program.service is service]

    def close(self) -> None:
        """Stop supervisord with the services that still run, and remove its temporary folder."""
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(timeout=CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join()
        self._private.cleanup()

    def _read(self) -> None:
        incidents = Incidents()
        assert self._process.stdout is not None  # noqa: S101 # Popen was called with a pipe
        with self._process.stdout as lines:
            for line in lines:
                self._said.append(line.rstrip())
                if incident := incidents.read(line):
                    if incident.gave_up:
                        self._given_up[incident.service] = incident
                    self._on_incident(incident)
