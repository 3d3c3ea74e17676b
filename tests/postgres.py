"""A real PostgreSQL server on a free port of the loopback, with a folder of its own.

It refuses to run as root, so root starts it as Debian's user `postgres`.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.free_ports import free_ports

START_SECONDS = 60.0
USER = "blueprint"


def _programs() -> Path | None:
    """Return the folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parent.parent.name))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@dataclass
class PostgresServer:
    """A server that can be killed and started again on the same port, with what it had committed."""

    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """Return a database's address, with the credentials."""
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database and return its address."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def initialise(self) -> None:
        programs = _programs()
        assert programs
        password = self.folder / "password"
        password.write_text(self.password)
        if os.geteuid() == 0:
            for path in (self.folder, password):
                shutil.chown(path, "postgres", "postgres")
        data = str(self.folder / "data")
        self._run(str(programs / "initdb"), "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", str(password))

    def start(self) -> None:
        """Start it and wait until it answers."""
        programs = _programs()
        assert programs
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 300,
            # What is killed here is processes, never the machine, and what they wrote the kernel has.
            "fsync": "off",
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        command = [str(programs / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*_as_user(), *command], stdout=log, stderr=log, cwd="/", env=_english())
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self.folder / "server.log").read_text()[-2000:]) from None
                time.sleep(0.1)
            else:
                return

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it at once, and in order."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(timeout=30)

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*_as_user(), *command], check=False, capture_output=True, text=True, cwd="/", env=_english()
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


def _english() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"}


@contextmanager
def postgres_server() -> Generator[PostgresServer]:
    """Run a server inside; skips the test where PostgreSQL is not installed, except in CI."""
    if _programs() is None:
        if os.environ.get("CI"):
            raise AssertionError("PostgreSQL is not installed; .ci/run should have done that")
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    # Not under pytest's folder, which is nobody's but root's.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = PostgresServer(Path(folder), free_ports(1)[0])
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
