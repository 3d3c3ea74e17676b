"""Preparation: what has to be on the server before a file can be worked on.

The work pool, the deployments of prefect.yaml and the automations; each step can be repeated at will.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from sensors.config.profile import masked
from sensors.config.settings import PROJECT_ROOT, Settings
from sensors.files.beneath import appending_to, replace_text
from sensors.stack.api import open_api
from sensors.stack.errors import StackError
from sensors.stack.services import WORK_POOL
from sensors.stack.stop import StopRequest
from sensors.stack.supervisor import TETHERED
from sensors.stack.terminal import tail

STEP_SECONDS = 90


def make_work_pool(settings: Settings) -> None:
    """Make the work pool if it does not exist; its queue `default` comes with it. Raises StackError."""
    with open_api(settings, timeout_seconds=20) as api:
        answer = api.post("/work_pools/", json={"name": WORK_POOL, "type": "process"})
    if answer.status_code == httpx.codes.CONFLICT.value:
        return
    if answer.status_code == httpx.codes.UNAUTHORIZED.value:
        raise StackError(
            "the server refuses the credentials of PREFECT_API_AUTH_STRING; stop whatever else uses this "
            "API_PORT, or remove PREFECT_SERVER_API_AUTH_STRING from the environment"
        )
    if answer.is_error:
        raise StackError(f"the work pool {WORK_POOL} cannot be made: {answer.status_code} {answer.text:.200}")


@dataclass(frozen=True)
class Commands:
    """Runs the commands of a preparation; their output goes to a log file."""

    environment: dict[str, str]
    log: Path
    stop: StopRequest

    def run(self, what: str, arguments: Sequence[str]) -> None:
        """Run a Python module; raises StackError with the end of its output if it fails."""
        with appending_to(self.log) as log:
            log.write(f"\n$ python -m {' '.join(arguments)}\n".encode())
            begin = log.tell()
            process = subprocess.Popen(
                [*TETHERED, *arguments],
                env=self.environment,
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            status = self._wait(process, what)
        if status != 0:
            raise StackError(
                f"{what} failed (exit status {status}); the last lines of {self.log}:",
                *(f"    {line}" for line in tail(self.log, begin=begin)),
            )

    def _wait(self, process: subprocess.Popen[bytes], what: str) -> int:
        try:
            for _ in range(STEP_SECONDS * 20):
                status = process.poll()
                if status is not None:
                    return status
                self.stop.pause(0.05)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        raise StackError(f"{what} took more than {STEP_SECONDS} s and was stopped; see {self.log}")


class Deploying:
    """`prefect deploy`, left out while neither prefect.yaml nor the flows have changed since the last one.

    It costs about four seconds of every start. What a person has changed on the page stays until the files
    change; `just deploy` puts the files' state back at any time.
    """

    def __init__(self, settings: Settings, root: Path = PROJECT_ROOT) -> None:
        self._settings = settings
        self._root = root
        # A server with another database has nothing of what was deployed; the description names the drop page.
        database = masked(settings.database_url.get_secret_value()) if settings.is_scale else ""
        self._around = f"{database} {settings.drop_page}"
        self._stamp = settings.prefect_home / "deployed.sha256"

    @property
    def done_before(self) -> bool:
        """Whether the files are as they were when they were deployed last, by the stamp alone."""
        return self._stamp.exists() and self._stamp.read_text("utf-8") == fingerprint(self._root, self._around)

    def is_up_to_date(self) -> bool:
        """Tell whether the server has every deployment, made from the files as they are."""
        if not self.done_before:
            return False
        wanted = deployment_names(self._root)
        with open_api(self._settings) as api:
            answer = api.post("/deployments/filter", json={"deployments": {"name": {"any_": sorted(wanted)}}})
        return answer.is_success and wanted <= {one["name"] for one in answer.json()}

    def deploy(self, commands: Commands) -> None:
        """Deploy everything in prefect.yaml; raises StackError."""
        now = fingerprint(self._root, self._around)
        self._stamp.unlink(missing_ok=True)
        commands.run("prefect deploy", ("prefect", "--no-prompt", "deploy", "--all"))
        replace_text(self._stamp, now)


def deployment_names(root: Path) -> set[str]:
    """Return the names of the deployments in prefect.yaml."""
    written: dict[str, Any] = yaml.safe_load((root / "prefect.yaml").read_text("utf-8"))
    deployments: list[dict[str, Any]] = written.get("deployments") or []
    return {str(one["name"]) for one in deployments}


def apply_automations(commands: Commands) -> None:
    """Put the automations and the notification block on the server; raises StackError."""
    commands.run("applying the automations", ("automations", "apply"))


def fingerprint(root: Path, server: str = "") -> str:
    """Return a digest of all that a deployment is made from, this Python, the place and the server included."""
    digest = hashlib.sha256(f"{root}\0{sys.executable}\0{sys.version}\0{server}".encode())
    for file in [root / "prefect.yaml", root / "requirements.txt", *sorted((root / "flows").rglob("*.py"))]:
        digest.update(str(file).encode())
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


# Prefect's PostgreSQL database: its tables made, or brought to this version, by one machine at a time.

_LOCK = int.from_bytes(b"blueprnt", "big") >> 1
"""Of all machines that start at the same time, the one that has this advisory lock migrates."""

TIMEOUT_SECONDS = 10


def migrate(settings: Settings, commands: Commands) -> None:
    """Bring the database to the version of this Prefect; waits while another machine does. Raises StackError."""
    url = libpq_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            commands.run("prefect server database upgrade", ("prefect", "server", "database", "upgrade", "--yes"))
    except psycopg.Error as error:
        raise StackError(f"DATABASE_URL {masked(url)}: {one_line(error)}") from error


def libpq_url(settings: Settings) -> str:
    """Return the database's address as PostgreSQL's own programs take it."""
    _, _, rest = settings.database_url.get_secret_value().partition("://")
    return f"postgresql://{rest}"


def one_line(error: Exception) -> str:
    """Return what an error says in one line; drivers say it in several."""
    return " ".join(str(error).split()) or type(error).__name__
