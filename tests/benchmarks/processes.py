"""What the processes of a system take: CPU time and memory."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

ROLES = {
    "server start": "server",
    "uvicorn": "server",
    "worker start": "worker",
    "sensors run": "sensor",
    "flows.forkserver.worker": "worker",
    "flows.forkserver.server": "warm server",
    "supervisord": "supervisor",
    "sensors up": "up",
    "-m watcher": "watcher",
}
"""What a process is whose command line has this in it; the first that fits. A warm server's forks bear its line."""

CALM_PERCENT = 15.0
CALM_SECONDS = 60.0


class Idle(BaseModel):
    """What a system takes while nothing happens."""

    model_config = ConfigDict(frozen=True)

    cpu_percent: float
    """Of one core, all processes together."""
    memory_mb: dict[str, float]
    """Proportional set size (PSS) by role: what processes share is divided among them."""


Processes = Callable[[], list[psutil.Process]]
"""Gives the living processes of a system."""


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Return the CPU time of processes and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def memory(processes: Iterable[psutil.Process]) -> dict[str, float]:
    """Return the PSS in MB by role."""
    found: defaultdict[str, float] = defaultdict(float)
    for process in processes:
        with suppress(psutil.Error):
            found[role(process)] += process.memory_full_info().pss / 2**20
    return {name: round(size, 1) for name, size in sorted(found.items())}


def peak_mb(pid: int) -> float:
    """Return the peak memory of a process in MB; its `ru_maxrss` would begin with that of who started it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def role(process: psutil.Process) -> str:
    """Return what a process is in its system."""
    line = " ".join(process.cmdline())
    return next((name for part, name in ROLES.items() if part in line), "other")


def cpu_percent(processes: Processes, seconds: float) -> float:
    """Return how much of one core a system takes over some seconds."""
    began, before = time.monotonic(), cpu_seconds(processes())
    time.sleep(seconds)
    return 100 * (cpu_seconds(processes()) - before) / (time.monotonic() - began)


def idle(processes: Processes, seconds: float) -> Idle:
    """Measure a system that has nothing to do."""
    percent = cpu_percent(processes, seconds)
    return Idle(cpu_percent=round(percent, 2), memory_mb=memory(processes()))


def wait_until_calm(processes: Processes) -> None:
    """Wait until a system does little, at most a minute."""
    deadline = time.monotonic() + CALM_SECONDS
    calm = 0
    while calm < 2 and time.monotonic() < deadline:
        calm = calm + 1 if cpu_percent(processes, 3) < CALM_PERCENT else 0
