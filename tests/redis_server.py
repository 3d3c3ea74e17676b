"""A real Redis server on a free port of the loopback, which keeps what it was told in a folder of its own."""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as NoConnectionError

from tests.free_ports import free_ports

START_SECONDS = 30.0


@dataclass
class RedisServer:
    """A server that can be killed and started again on the same port, with what it had written."""

    folder: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address, with the credentials."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.folder,
            "requirepass": self.password,
            # Each command is in the kernel's hands before it is answered: a killed server has lost none.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(["redis-server", *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with Redis.from_url(self.url) as redis:
                    redis.ping()
            except NoConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise AssertionError((self.folder / "server.log").read_text()[-2000:]) from None
                time.sleep(0.05)
            else:
                return

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=30)


@contextmanager
def redis_server() -> Generator[RedisServer]:
    """Run a server inside; skips the test where Redis is not installed, except in CI."""
    if shutil.which("redis-server") is None:
        if os.environ.get("CI"):
            raise AssertionError("Redis is not installed; .ci/run should have done that")
        pytest.skip("Redis is not installed: apt install redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), free_ports(1)[0])
        server.start()
        try:
            yield server
        finally:
            server.kill()
