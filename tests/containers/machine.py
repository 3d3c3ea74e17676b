"""A Debian machine that has booted, as far as a container can be one: systemd is its first process."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.engine import BUILD_SECONDS, Engine, succeeded
from tests.journeys.stack import wait_until

NAME = "machine"
REPOSITORY = "/srv/prefect-blueprint.git"
"""Where the machine finds the project's repository."""

# What systemd takes to be the first process without the whole of --privileged; CAP_LEASE is the unit's.
_MAY = ("--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN", "--cap-add", "LEASE")
_CGROUPS = ("--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup")
_HAS = ("--tmpfs", "/run", "--tmpfs", "/run/lock")
_BOOT_SECONDS = 60.0


@dataclass(frozen=True)
class Machine:
    """A machine, and how its root types commands."""

    engine: Engine

    def typed(self, lines: str, seconds: float = BUILD_SECONDS) -> str:
        """Type lines as root, all of which have to succeed, and return what they wrote."""
        return succeeded(self.engine.run("docker", "exec", NAME, "bash", "-ec", lines, seconds=seconds))

    def tried(self, line: str) -> subprocess.CompletedProcess[str]:
        """Type a line that may fail, and return how it ended."""
        return self.engine.run("docker", "exec", NAME, "bash", "-c", line)

    def shown(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.typed(f"systemctl show --value --property={name} {unit}").strip()


@contextmanager
def machine_booted(engine: Engine, repository: Path) -> Generator[Machine, None, None]:
    """Boot a machine that has a repository at `REPOSITORY`, and end it."""
    project = ("--volume", f"{repository}:{REPOSITORY}:ro")
    engine.docker("run", "--detach", "--name", NAME, *_MAY, *_CGROUPS, *_HAS, *project, NAME)
    machine = Machine(engine)

    def booted() -> bool:
        state = engine.docker("inspect", "--format", "{{.State.Status}}", NAME).strip()
        if state != "running":
            pytest.skip(
                f"systemd cannot be the first process of a container here: {engine.docker('logs', NAME)[-500:]}"
            )
        # Some units of a machine have nothing to do in a container, which makes it degraded.
        return machine.tried("systemctl is-system-running").stdout.strip() in {"running", "degraded"}

    try:
        wait_until(booted, "the machine has booted", _BOOT_SECONDS, pause=0.5)
        yield machine
    finally:
        engine.docker("rm", "--force", NAME)
