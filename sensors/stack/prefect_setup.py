"""Set up the Prefect server: database migration, work pool, the deployments of prefect.yaml, and automations.

A file can be processed only after this. Every step is idempotent.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from sensors.config.settings import PROJECT_ROOT, Settings, masked
from sensors.files.beneath import appending_to, replace_text
from sensors.runs.api import ApiError, open_api
from sensors.stack.errors import StackError
from sensors.stack.services import WORK_POOL
from sensors.stack.stop import StopRequest
from sensors.stack.supervisor import DIE_WITH_PARENT
from sensors.stack.terminal import tail

STEP_SECONDS = 90


def make_work_pool(settings: Settings) -> None:
    """Create the work pool with its queue `default` if it does not exist. Raises StackError, ApiError."""
    try:
        with open_api(settings, timeout_seconds=20) as api:
            api.post("/work_pools/", {"name": WORK_POOL, "type": "process"})
    except ApiError as error:
        if error.status == HTTPStatus.CONFLICT:
            return
        if error.status == HTTPStatus.UNAUTHORIZED:
            raise StackError(
                "the server refuses the credentials of PREFECT_API_AUTH_STRING; stop whatever else uses this "
                "API_PORT, or remove PREFECT_SERVER_API_AUTH_STRING from the environment"
            ) from error
        if error.status is None:
            raise
        raise StackError(f"the work pool {WORK_POOL} cannot be made: {error}") from error


@dataclass(frozen=True)
class Commands:
    """Runs setup commands; their output goes to a log file."""

    environment: dict[str, str]
    log: Path
    stop: StopRequest

    def run(self, what: str, arguments: Sequence[str]) -> None:
        """Run a Python module. Raises StackError with the end of its output if it fails, and StopRequestedError."""
        with appending_to(self.log) as log:
            log.write(f"\n$ python -m {' '.join(arguments)}\n".encode())
            begin = log.tell()
            process = subprocess.Popen(
                [*DIE_WITH_PARENT, *arguments],
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
    """`prefect deploy`, skipped while neither prefect.yaml nor the flows have changed since the last deploy.

    Deploying takes about four seconds of a start. Changes that users make on the page stay until the files change;
    `just deploy` restores the files' state at any time.
    """

    def __init__(self, settings: Settings, root: Path = PROJECT_ROOT) -> None:
        self._settings = settings
        self._root = root
        # Another database does not have the deployments, and their description contains the drop page's URL.
        database = masked(settings.database_url.get_secret_value()) if settings.is_scale else ""
        self._around = f"{database} {settings.drop_page}"
        self._stamp = settings.prefect_home / "deployed.sha256"

    @property
    def done_before(self) -> bool:
        """Whether the files are unchanged since the last deploy, by the stamp file alone."""
        return self._stamp.exists() and self._stamp.read_text("utf-8") == fingerprint(self._root, self._around)

    def is_up_to_date(self) -> bool:
        """Return whether the server has every deployment, made from the current files. Raises ApiError."""
        if not self.done_before:
            return False
        wanted = deployment_names(self._root)
        body = {"deployments": {"name": {"any_": sorted(wanted)}}}
        try:
            with open_api(self._settings) as api:
                return wanted <= {one["name"] for one in api.results("/deployments/filter", body)}
        except ApiError as error:
            if error.status is None:
                raise
            return False

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
    """Apply the automations and the notification block to the server. Raises StackError."""
    commands.run("applying the automations", ("automations", "apply"))


def fingerprint(root: Path, server: str = "") -> str:
    """Return a digest of everything that a deployment depends on: files, the Python, the project folder, the server."""
    digest = hashlib.sha256(f"{root}\0{sys.executable}\0{sys.version}\0{server}".encode())
    for file in [root / "prefect.yaml", root / "requirements.txt", *sorted((root / "flows").rglob("*.py"))]:
        digest.update(str(file).encode())
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()


_LOCK = int.from_bytes(b"blueprnt", "big") >> 1
"""The PostgreSQL advisory lock that lets one machine at a time migrate Prefect's database."""

TIMEOUT_SECONDS = 10


def migrate(settings: Settings, commands: Commands) -> None:
    """Migrate the database to this Prefect's version; waits while another machine migrates it. Raises StackError."""
    import psycopg  # only one profile needs it, and the import takes half a second

    url = libpq_url(settings)
    try:
        with psycopg.connect(url, connect_timeout=TIMEOUT_SECONDS, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            commands.run("prefect server database upgrade", ("prefect", "server", "database", "upgrade", "--yes"))
    except psycopg.Error as error:
        raise StackError(f"DATABASE_URL {masked(url)}: {one_line(error)}") from error


def libpq_url(settings: Settings) -> str:
    """Return the database URL in libpq's form, without a driver."""
    _, _, rest = settings.database_url.get_secret_value().partition("://")
    return f"postgresql://{rest}"


def one_line(error: Exception) -> str:
    """Return an error's message on one line, as drivers use several; the class name if it is empty."""
    return " ".join(str(error).split()) or type(error).__name__
