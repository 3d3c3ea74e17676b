"""Find and end all processes of a stack by an environment variable that each of them carries.

Prefect starts flow runs in their own sessions: they survive the signals that reach the other processes, and the death
of the worker. An environment variable is inherited by every descendant.
"""

import signal
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "BLUEPRINT_STACK"
"""The environment variable; its value is the stack's state folder."""

_RUN = "PREFECT__FLOW_RUN_ID"


def marked_processes(state_dir: Path) -> list[psutil.Process]:
    """Return the living processes of the stack with this state folder, without this process and its ancestors."""
    me = psutil.Process()
    spared = {me.pid, *(ancestor.pid for ancestor in me.parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and environment_of(process).get(MARK) == str(state_dir)
    ]


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Return the environment that a process was started with; empty if it is dead or belongs to another user."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def is_flow_run(process: psutil.Process) -> bool:
    """Return whether a process belongs to a flow run."""
    return _RUN in environment_of(process)


def flow_runs(state_dir: Path) -> set[str]:
    """Return the ids of the flow runs that have a living process."""
    found = (environment_of(process).get(_RUN) for process in marked_processes(state_dir))
    return {run_id for run_id in found if run_id}


def end(processes: list[psutil.Process], grace_seconds: float) -> None:
    """Send SIGTERM to processes, and SIGKILL to those that remain after the grace period."""
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=2)


def sweep(state_dir: Path, grace_seconds: float) -> list[psutil.Process]:
    """End all processes of a stack, processes that they start meanwhile included; return those found at first."""
    found = marked_processes(state_dir)
    remaining = found
    while remaining:
        end(remaining, grace_seconds)
        grace_seconds = 0
        remaining = marked_processes(state_dir)
    return found


def _signal(process: psutil.Process, *, kill: bool) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
