"""A container engine of the tests' own: Debian's dockerd in namespaces, with everything it has in one folder.

Its network is its own: ports 4200 and 4201 are free there, and the machine's ports and firewall stay as they are.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.journeys.stack import wait_until

NEEDED = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap", "nsenter": "util-linux", "slirp4netns": "slirp4netns"}
START_SECONDS = 60.0
BUILD_SECONDS = 900.0
_APART = ("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")
_NETWORK = ("slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback")


@dataclass(frozen=True)
class Engine:
    """An engine that runs, and how `docker` finds it."""

    folder: Path
    process: psutil.Process

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which `docker` and `docker compose` talk to this engine and to no other."""
        return _environment(self.folder)

    def docker(self, *words: str, seconds: float = BUILD_SECONDS) -> str:
        """Run `docker`, which has to succeed, and return what it wrote."""
        return succeeded(self.run("docker", *words, seconds=seconds))

    def asked(self, *words: str) -> str:
        """Run `curl` where the containers' ports are published and return the answer, its status in the last line."""
        curl = ("curl", "--silent", "--show-error", "--max-time", "30", "--write-out", "\n%{http_code}")
        return succeeded(self.run("nsenter", "--target", str(self.process.pid), "--net", *curl, *words))

    def run(
        self, *words: str, seconds: float = BUILD_SECONDS, fed: bytes | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program that may ask the engine, and return how it ended."""
        done = subprocess.run(
            words,
            env=self.environment,
            cwd=folder,
            input=fed,
            stdin=subprocess.DEVNULL if fed is None else None,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        return subprocess.CompletedProcess(
            words, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a program wrote that has to have succeeded."""
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def missing() -> str | None:
    """Return why no engine can be started here, or None."""
    if os.geteuid() != 0:
        return "only root may start a container engine"
    lacking = {package for name, package in NEEDED.items() if shutil.which(name) is None}
    return f"no container engine can be started: apt install {' '.join(sorted(lacking))}" if lacking else None


@contextmanager
def engine_running(folder: Path) -> Generator[Engine, None, None]:
    """Start an engine with everything it has in `folder`, and end it with all its containers."""
    if why := missing():
        pytest.skip(why)
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(Path(sys.executable).parent / "docker-compose")
    places = [f"--{what}={folder / what}" for what in ("data-root", "exec-root", "pidfile")]
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(
            [*_APART, "dockerd", *places, "--host", _environment(folder)["DOCKER_HOST"]],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        network: subprocess.Popen[bytes] | None = None
        try:
            engine = Engine(folder, _process_of(daemon, folder))
            network = subprocess.Popen([*_NETWORK, str(engine.process.pid), "tap0"], stdout=log, stderr=log)
            wait_until(lambda: _answers(engine, daemon), "dockerd answers", START_SECONDS)
            yield engine
            _take_down(engine)
        finally:
            # The first process of its namespace: what it has started ends with it.
            daemon.kill()
            daemon.wait()
            if network is not None:
                network.kill()
                network.wait()
            # A gigabyte of layers; what goes wrong is in the log next to them.
            shutil.rmtree(folder / "data-root", ignore_errors=True)


def _environment(folder: Path) -> Mapping[str, str]:
    around = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))}
    own = {"DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_CONFIG": str(folder / "config")}
    # The builder of the engine itself: Debian 12 has no buildx.
    return {**around, **own, "DOCKER_BUILDKIT": "0"}


def _process_of(daemon: "subprocess.Popen[bytes]", folder: Path) -> psutil.Process:
    def look() -> psutil.Process | None:
        _has_not_ended(daemon, folder)
        children = psutil.Process(daemon.pid).children()
        return next((one for one in children if one.name() == "dockerd"), None)

    return wait_until(look, "dockerd runs in its namespaces", START_SECONDS)


def _answers(engine: Engine, daemon: "subprocess.Popen[bytes]") -> bool:
    _has_not_ended(daemon, engine.folder)
    return engine.run("docker", "info").returncode == 0


def _has_not_ended(daemon: "subprocess.Popen[bytes]", folder: Path) -> None:
    if daemon.poll() is not None:
        pytest.skip(f"dockerd does not run here: {(folder / 'log').read_text()[-500:]}")


def _take_down(engine: Engine) -> None:
    """Remove the containers, for their cgroups and mounts are the kernel's, and end dockerd in order.

    What containers have said that a failed test has left is kept in the log.
    """
    if left := engine.docker("ps", "--all", "--quiet").split():
        with (engine.folder / "log").open("a") as log:
            for container in left:
                said = engine.run("docker", "logs", "--tail", "100", container)
                log.write(f"\n-- {container}\n{said.stdout}{said.stderr}")
        engine.docker("rm", "--force", "--volumes", *left)
    engine.process.send_signal(signal.SIGTERM)
    engine.process.wait(timeout=60)
