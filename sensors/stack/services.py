"""The services of a stack: what each one runs, and where."""

import platform
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sensors.settings import PROJECT_ROOT, Settings

WORK_POOL = "local-process-pool"
WORK_QUEUE = "default"

STOP_SECONDS = 3
"""How long a service has to stop when it is asked to, before it is killed."""


class Service(StrEnum):
    """A long-running part of the stack; the order is that of starting."""

    SERVER = "server"
    WORKER = "worker"
    SENSOR = "sensor"
    WARM = "warm"


OPTIONAL = {Service.WARM: "runs work without it and start about 2 s later"}
"""The services that a stack is healthy without, and what is missing then."""


@dataclass(frozen=True)
class Program:
    """How a service runs: what follows `python -m`, and in which folder."""

    service: Service
    arguments: tuple[str, ...]
    folder: Path


def programs(settings: Settings) -> tuple[Program, ...]:
    """Return the programs of a stack in the order of starting."""
    server = ("flows.warm.prefect_command", "server", "start", "--host", "127.0.0.1", "--port", str(settings.api_port))
    worker = ("flows.warm.worker", "--pool", WORK_POOL, "--name", worker_name())
    return (
        # Away from the project's root: Prefect would read its `.env` there, behind AUTH=off's back.
        Program(Service.SERVER, server, settings.prefect_home),
        Program(Service.WORKER, worker, PROJECT_ROOT),
        Program(Service.SENSOR, ("sensors", "run"), PROJECT_ROOT),
        Program(Service.WARM, ("flows.warm",), PROJECT_ROOT),
    )


def warm_socket(settings: Settings) -> Path:
    """Return the socket of the warm server, which forks flow runs; it belongs to our user alone."""
    return settings.state_dir / "warm.sock"


def worker_name() -> str:
    """Return the worker's name, the same after every restart, so that the page lists one and not hundreds."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", platform.node()) or "localhost"


def log_file(settings: Settings, service: Service) -> Path:
    """Return the file that holds a service's output."""
    return settings.logs_dir / f"{service}.log"
