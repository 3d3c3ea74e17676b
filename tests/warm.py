"""A real warm server and real clients, with a script of a few lines in the place of Prefect's engine."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.forkserver import client

ROOT = Path(__file__).resolve().parents[1]
CLIENT = [sys.executable, "-I", "-S", client.__file__]

_ENGINE = """\
import os, sys, time
print("ordinary" if sys.orig_argv[-1] == "prefect.engine" else "warm", flush=True)
exec(os.environ["JOB"])
"""

_SERVER = """\
import sys
from pathlib import Path
from flows.forkserver.server import listen, read_stamp, serve
from flows.forkserver import flow_process
def changed():
    sys.exit(7)
imported = read_stamp()
listener = listen(Path(sys.argv[1]))
print("listening", flush=True)
serve(listener, flow_process.run, imported, changed)
"""


class WarmServer:
    """A warm server in a folder of its own that runs what a client's variable JOB says."""

    def __init__(self, folder: Path, socket: Path) -> None:
        (folder / "prefect").mkdir(parents=True)
        (folder / "prefect" / "__init__.py").touch()
        (folder / "prefect" / "engine.py").write_text(_ENGINE)
        self.folder = folder
        self.socket = socket
        # The folder comes first, so that the ordinary way finds this engine as well.
        path = os.pathsep.join([str(folder), str(ROOT)])
        self.environment = {**os.environ, "PYTHONPATH": path, "WARM_SOCKET": str(socket)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(socket)], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def start(self, job: str, **variables: str) -> subprocess.Popen[str]:
        """Start a client and return it when its job has begun."""
        started = self.client(job, **variables)
        assert started.stdout is not None
        assert started.stdout.readline() == "warm\n"
        return started

    def client(self, job: str, **variables: str) -> subprocess.Popen[str]:
        """Start a client."""
        return subprocess.Popen(
            CLIENT,
            env={**self.environment, "JOB": job, **variables},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, job: str, **variables: str) -> tuple[str, str, int]:
        """Run a client to its end and return its output, its errors and its exit status."""
        with self.client(job, **variables) as started:
            output, errors = started.communicate(timeout=30)
        return output, errors, started.returncode

    def stop(self) -> None:
        """End the server and what it has forked."""
        left = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.kill()
        for one in left:
            with suppress(psutil.NoSuchProcess):  # it had ended just before
                one.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def warm_server(folder: Path, socket: Path | None = None) -> Generator[WarmServer, None, None]:
    """Run a warm server for a while."""
    server = WarmServer(folder, socket or folder / "warm.sock")
    try:
        yield server
    finally:
        server.stop()


def reported(output: str) -> object:
    """Return what a warm job has printed as JSON."""
    way, _, said = output.partition("\n")
    assert way == "warm"
    return json.loads(said)
