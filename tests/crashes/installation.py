"""A whole installation whose processes a test starts, kills and stops one by one: the real commands, no supervisor.

`just up` would start what a test has killed by itself, and give a service up that dies too often.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import pytest
import yaml

from sensors.config.settings import Settings
from sensors.ledger import Ledger
from sensors.stack import processes
from sensors.stack.environment import stack_environment
from sensors.stack.prefect_setup import make_work_pool
from sensors.stack.services import Service, programs
from tests.free_ports import free_ports
from tests.journeys.stack import CREDENTIALS, ROOT, Stack, wait_until


@contextmanager
def small_file_system(folder: Path, options: str) -> Iterator[Path]:
    """Mount a real file system in memory as `<folder>/disk`; skips the test where that is not allowed."""
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


class Installation:
    """Server, worker and sensors in one state folder; a Stack of the journeys lends its ports and questions."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = Settings(
            state_dir=stack.state_dir,
            api_port=stack.api_port,
            sensor_port=stack.sensor_port,
            prefect_api_auth_string=CREDENTIALS,  # pyright: ignore[reportArgumentType]
            notify_urls=stack.environment["NOTIFY_URLS"],
        )
        around = {**stack.environment, "PREFECT_API_URL": self.settings.api_url}
        self.environment = stack_environment(self.settings, around)
        self.processes: dict[Service, subprocess.Popen[bytes]] = {}
        for folder in (self.settings.logs_dir, self.settings.prefect_home, self.settings.inbox_dir / "metrics"):
            folder.mkdir(parents=True, exist_ok=True)

    # -- processes

    def start(self, service: Service, **environment: str) -> subprocess.Popen[bytes]:
        """Start a service as the supervisor does; its output goes to its log."""
        (program,) = [one for one in programs(self.settings) if one.service is service]
        with (self.settings.logs_dir / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *program.arguments],
                cwd=program.folder,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[service] = process
        return process

    def ensure(self, service: Service) -> None:
        """Start a service that is not running."""
        if service not in self.processes or self.processes[service].poll() is not None:
            self.start(service)

    def keep_alive(self) -> None:
        """Start again whatever has died."""
        for service, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start(service)

    def kill(self, service: Service) -> None:
        """kill -9."""
        self.processes[service].kill()
        self.processes[service].wait()

    def flow_processes(self) -> list[psutil.Process]:
        """Return the processes of flow runs that are alive."""
        found = processes.marked_processes(self.settings.state_dir)
        return [one for one in found if processes.is_flow_run(one)]

    def prepare(self) -> None:
        """Start the server and put everything on it."""
        self.start(Service.SERVER)
        wait_until(self.server_answers, "the server answers", 120)
        make_work_pool(self.settings)
        self.prepare_deployment()
        self.start(Service.WARM)

    def prepare_deployment(self) -> None:
        """Put the deployment and the automations on the server."""
        for command in (("prefect", "--no-prompt", "deploy", "--all"), ("automations", "apply")):
            subprocess.run(
                [sys.executable, "-m", *command], cwd=ROOT, env=self.environment, check=True, capture_output=True
            )

    def server_answers(self) -> bool:
        """Return whether the server is healthy."""
        with suppress(Exception):
            return self.stack.api.get("/health").is_success
        return False

    def stop(self) -> None:
        """End everything of this installation, whatever state it is in."""
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        processes.sweep(self.settings.state_dir, grace_seconds=1)
        for process in self.processes.values():
            process.kill()
            process.wait()

    def replay_failed(self) -> None:
        """Have what failed tried again, as a person does."""
        command = [sys.executable, "-m", "sensors", "replay", "--failed"]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True, capture_output=True)

    # -- what is to be counted

    def ledger_rows(self, query: str) -> list[tuple[object, ...]]:
        """Return the rows of a query on the ledger."""
        if not self.settings.ledger_path.exists():
            return []
        with Ledger(self.settings.ledger_path, read_only=True) as ledger:
            return [tuple(row) for row in ledger.rows(query)]

    def states(self) -> dict[str, int]:
        """Return how many files are in each state, withdrawn ones left out."""
        return dict(
            self.ledger_rows("SELECT state, count(*) FROM files WHERE state <> 'withdrawn' GROUP BY state")  # pyright: ignore[reportArgumentType]
        )

    def log(self, service: Service) -> str:
        """Return a service's log."""
        log = self.settings.logs_dir / f"{service}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def tail(self, service: Service) -> str:
        """Return the end of a service's log."""
        return self.log(service)[-3000:]


def sensor_alone(installation: Installation, state_dir: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start one more sensor, with a state folder of its own, that announces to the installation's server."""
    (state_dir / "logs").mkdir(parents=True, exist_ok=True)
    (state_dir / "inbox" / "metrics").mkdir(parents=True, exist_ok=True)
    with (state_dir / "logs" / "sensor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sensors", "run"],
            cwd=ROOT,
            env={
                **installation.environment,
                "STATE_DIR": str(state_dir),
                "PREFECT_API_URL": installation.settings.api_url,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class LoneSensor:
    """A real sensor process in a state folder of its own, with no server to announce to."""

    def __init__(self, state_dir: Path, beside: Path | None = None, **rules: object) -> None:
        """Its log and its configuration lie `beside` the state folder, or in another folder."""
        self.state_dir = state_dir
        self.inbox = state_dir / "inbox" / "metrics"
        self.inbox.mkdir(parents=True)
        beside = beside or state_dir.parent
        self.log = beside / f"{state_dir.name}.log"
        inboxes = beside / f"{state_dir.name}.inboxes.yaml"
        inboxes.write_text(yaml.safe_dump({"inboxes": {"metrics": rules}}))
        api, self.port = free_ports(2)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "STATE_DIR": str(state_dir),
            "API_PORT": str(api),
            "SENSOR_PORT": str(self.port),
            "INBOXES_FILE": str(inboxes),
            "ENV_FILE": str(beside / "no.env"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *wrapper: str) -> Self:
        """Start it, `wrapper` before the command, and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-m", "sensors", "run"],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self.health() is not None, "the sensor answers", 60)
        return self

    def health(self) -> dict[str, Any] | None:
        """Return what it says of its health, or None when it does not answer."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5, trust_env=False).json()
        except httpx.HTTPError:
            return None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def states(self) -> dict[str, int]:
        """Return how many files are in each state."""
        with Ledger(self.state_dir / "ledger.db", read_only=True) as ledger:
            rows = ledger.rows("SELECT state, count(*) AS files FROM files GROUP BY state")
        return {row["state"]: row["files"] for row in rows}

    def taken(self) -> list[Path]:
        """Return the files at their permanent addresses."""
        return [path for path in (self.state_dir / "arrivals").glob("*/*/[!.]*") if path.is_file()]


def until(look: Callable[[], object], seconds: float, pause: float = 0.05) -> bool:
    """Wait until something is true, at most so long; return whether it is."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def copy_of(database: Path, home: Path) -> None:
    """Give a server a database that is made already, which saves 8 s."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(database, home / database.name)
