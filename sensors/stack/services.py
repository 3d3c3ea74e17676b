"""The services of a stack: what each one runs, and where."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sensors.config.settings import PROJECT_ROOT, Settings

WORK_POOL = "local-process-pool"
WORK_QUEUE = "default"

STOP_SECONDS = 3
"""How long a service has to stop when it is asked to, before it is killed."""

_PREFECT = "flows.forkserver.prefect_command"
_SERVER = "sensors.stack.api_front"
"""The same command, with what protects the API in front of it."""


class Service(StrEnum):
    """A long-running part of the stack; the order is that of starting."""

    SERVER = "server"
    BALANCER = "balancer"
    SERVICES = "services"
    WORKER = "worker"
    SENSOR = "sensor"
    WARM = "warm"


OPTIONAL = {Service.WARM: "runs work without it and start about 2 s later"}
"""The services that a stack is healthy without, and what is missing then."""


@dataclass(frozen=True)
class Program:
    """One process of a service: what follows `python -m`, and in which folder."""

    service: Service
    arguments: tuple[str, ...]
    folder: Path
    number: int | None = None
    """Which of its service's processes it is, from 1; None: the only one that there can be."""

    @property
    def name(self) -> str:
        """What supervisord and the log call it: `sensor`, or `worker-2`."""
        return program_name(self.service, self.number)


def program_name(service: Service, number: int | None) -> str:
    """Return the name of one of a service's programs."""
    return service.value if number is None else f"{service}-{number}"


def programs(settings: Settings) -> tuple[Program, ...]:
    """Return the programs of a stack in the order of starting."""
    found = [
        *_servers(settings),
        *_workers(settings),
        Program(Service.SENSOR, ("sensors", "run"), PROJECT_ROOT),
        Program(Service.WARM, ("flows.forkserver.server",), PROJECT_ROOT),
    ]
    return tuple(program for program in found if program.service in services_of(settings))


def services_of(settings: Settings) -> tuple[Service, ...]:
    """Return the services that this machine has, in the order of starting."""
    if not settings.is_scale:
        return (Service.SERVER, Service.WORKER, Service.SENSOR, Service.WARM)
    present = {
        Service.SERVER: settings.has_server,
        Service.BALANCER: settings.has_balancer,
        Service.SERVICES: settings.service_processes > 0,
        Service.WORKER: settings.workers > 0,
        Service.SENSOR: settings.sensors > 0,
        Service.WARM: settings.workers > 0,
    }
    return tuple(service for service, is_there in present.items() if is_there)


def _servers(settings: Settings) -> list[Program]:
    # Away from the project's root: Prefect would read its `.env` there, behind AUTH=off's back.
    folder = settings.prefect_home
    if not settings.is_scale:
        return [Program(Service.SERVER, _server(settings.api_host, settings.api_port), folder)]
    host = "127.0.0.1" if settings.has_balancer else settings.api_host
    return [
        *(
            Program(Service.SERVER, (*_server(host, port), "--no-services"), folder, number)
            for number, port in enumerate(settings.api_server_ports, start=1)
        ),
        Program(Service.BALANCER, ("sensors.stack.balancer",), PROJECT_ROOT),
        *(
            Program(Service.SERVICES, (_PREFECT, "server", "services", "start"), folder, number)
            for number in range(1, settings.service_processes + 1)
        ),
    ]


def _server(host: str, port: int) -> tuple[str, ...]:
    return (_SERVER, "server", "start", "--host", host, "--port", str(port))


def _workers(settings: Settings) -> list[Program]:
    worker = ("flows.forkserver.worker", "--pool", WORK_POOL, "--name")
    if not settings.is_scale:
        return [Program(Service.WORKER, (*worker, settings.node), PROJECT_ROOT)]
    return [
        Program(Service.WORKER, (*worker, name), PROJECT_ROOT, number)
        for number, name in enumerate(worker_names(settings), start=1)
    ]


def worker_names(settings: Settings) -> tuple[str, ...]:
    """Return the workers' names, the same after every restart, so that the page lists one and not hundreds."""
    if not settings.is_scale:
        return (settings.node,)
    return tuple(worker_name(settings, number) for number in range(1, settings.workers + 1))


def worker_name(settings: Settings, number: int) -> str:
    """Return the name of one of several workers."""
    return f"{settings.node}-{number}"


def warm_socket(settings: Settings) -> Path:
    """Return the socket of the warm server, which forks flow runs; it belongs to our user alone."""
    return settings.state_dir / "warm.sock"


def log_file(settings: Settings, name: str) -> Path:
    """Return the file that holds a program's output."""
    return settings.logs_dir / f"{name}.log"


def newest_log(settings: Settings, service: Service) -> Path:
    """Return the log of that of a service's programs which has said something last."""
    logs = [log_file(settings, program.name) for program in programs(settings) if program.service is service]
    written = [log for log in logs if log.exists()]
    return max(written, key=lambda log: log.stat().st_mtime) if written else log_file(settings, service)
