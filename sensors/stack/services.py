"""The services of a stack with their programs: command, working folder, log file and start order."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sensors.config.settings import PROJECT_ROOT, Settings

WORK_POOL = "local-process-pool"
WORK_QUEUE = "default"

STOP_SECONDS = 3
"""How long a service may take to stop before it is killed."""

_SERVER = "sensors.stack.api_front"
"""Prefect's command with the middleware that protects the API."""


class Service(StrEnum):
    """A long-running part of the stack, in start order."""

    SERVER = "server"
    BALANCER = "balancer"
    SERVICES = "services"
    WORKER = "worker"
    SENSOR = "sensor"
    WARM = "warm"


OPTIONAL = {Service.WARM: "runs work without it and start about 2 s later"}
"""The services that a healthy stack can do without, each with the effect of its absence."""


@dataclass(frozen=True)
class Program:
    """One process of a service: the arguments of `python -m`, and its working folder."""

    service: Service
    arguments: tuple[str, ...]
    folder: Path
    number: int | None = None
    """The number of the process within its service, from 1; None if the service has only one."""

    @property
    def name(self) -> str:
        """The name in supervisord and of the log file: `sensor`, or `worker-2`."""
        return program_name(self.service, self.number)


def program_name(service: Service, number: int | None) -> str:
    """Return the name of one of a service's programs."""
    return service.value if number is None else f"{service}-{number}"


def programs(settings: Settings) -> tuple[Program, ...]:
    """Return the programs of this machine in start order."""
    found = [
        *_servers(settings),
        *_workers(settings),
        Program(Service.SENSOR, ("sensors", "run"), PROJECT_ROOT),
        Program(Service.WARM, ("flows.forkserver.server",), PROJECT_ROOT),
    ]
    return tuple(program for program in found if program.service in services_of(settings))


def services_of(settings: Settings) -> tuple[Service, ...]:
    """Return the services of this machine in start order."""
    if not settings.is_scale:
        warm = (Service.WARM,) if settings.is_warm else ()
        return (Service.SERVER, Service.WORKER, Service.SENSOR, *warm)
    present = {
        Service.SERVER: settings.has_server,
        Service.BALANCER: settings.has_balancer,
        Service.SERVICES: settings.service_processes > 0,
        Service.WORKER: settings.workers > 0,
        Service.SENSOR: settings.sensors > 0,
        Service.WARM: settings.workers > 0 and settings.is_warm,
    }
    return tuple(service for service, is_there in present.items() if is_there)


def prefect_command(settings: Settings) -> str:
    """Return the module of Prefect's command line: ours, which caches Prefect's settings, or Prefect's own."""
    return "flows.forkserver.prefect_command" if settings.is_warm else "prefect"


def _servers(settings: Settings) -> list[Program]:
    # Not in the project's root: Prefect would read the `.env` there, credentials included, even with AUTH=off.
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
            Program(Service.SERVICES, (prefect_command(settings), "server", "services", "start"), folder, number)
            for number in range(1, settings.service_processes + 1)
        ),
    ]


def _server(host: str, port: int) -> tuple[str, ...]:
    return (_SERVER, "server", "start", "--host", host, "--port", str(port))


def _workers(settings: Settings) -> list[Program]:
    command = ("flows.forkserver.worker",) if settings.is_warm else ("prefect", "worker", "start", "--type", "process")
    worker = (*command, "--pool", WORK_POOL, "--name")
    if not settings.is_scale:
        return [Program(Service.WORKER, (*worker, settings.node), PROJECT_ROOT)]
    return [
        Program(Service.WORKER, (*worker, name), PROJECT_ROOT, number)
        for number, name in enumerate(worker_names(settings), start=1)
    ]


def worker_names(settings: Settings) -> tuple[str, ...]:
    """Return the workers' names. They stay the same after a restart, or the page would list hundreds of workers."""
    if not settings.is_scale:
        return (settings.node,)
    return tuple(worker_name(settings, number) for number in range(1, settings.workers + 1))


def worker_name(settings: Settings, number: int) -> str:
    """Return the name of one of several workers."""
    return f"{settings.node}-{number}"


def warm_socket(settings: Settings) -> Path:
    """Return the socket of the warm server, which forks flow runs; only the stack's user has access."""
    return settings.state_dir / "warm.sock"


def log_file(settings: Settings, name: str) -> Path:
    """Return the file that holds a program's output."""
    return settings.logs_dir / f"{name}.log"


def newest_log(settings: Settings, service: Service) -> Path:
    """Return the most recently written log file among a service's programs."""
    logs = [log_file(settings, program.name) for program in programs(settings) if program.service is service]
    written = [log for log in logs if log.exists()]
    return max(written, key=lambda log: log.stat().st_mtime) if written else log_file(settings, service)
