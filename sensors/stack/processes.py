"""The mark that every process of a stack carries in its environment, so that none is left behind.

Prefect starts flow runs in sessions of their own: they survive the signals that reach everything else, and
the death of the worker. A variable in the environment is inherited all the way down and cannot get lost.
"""

import signal
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "BLUEPRINT_STACK"
"""The variable; its value is the stack's state folder."""

_RUN = "PREFECT__FLOW_RUN_ID"


def marked_processes(state_dir: Path) -> list[psutil.Process]:
    """Return the living processes of the stack with this state folder, without us and our ancestors."""
    me = psutil.Process()
    spared = {me.pid, *(ancestor.pid for ancestor in me.parents())}
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in spared and environment_of(process).get(MARK) == str(state_dir)
    ]


def environment_of(process: psutil.Process) -> dict[str, str]:
    """Return the environment that a process was started with; empty for a dead one and somebody else's."""
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def is_flow_run(process: psutil.Process) -> bool:
    """Tell whether a process belongs to a flow run."""
    return _RUN in environment_of(process)


def flow_runs(state_dir: Path) -> set[str]:
    """Return the ids of the flow runs that have a living process."""
    found = (environment_of(process).get(_RUN) for process in marked_processes(state_dir))
    return {run_id for run_id in found if run_id}


def end(processes: list[psutil.Process], grace_seconds: float) -> None:
    """End processes: ask them to, and after the grace kill those that remain."""
    for process in processes:
        _signal(process, kill=False)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        _signal(process, kill=True)
    psutil.wait_procs(alive, timeout=2)


def sweep(state_dir: Path, grace_seconds: float) -> list[psutil.Process]:
    """End every process of a stack, also what they start meanwhile; return those that were found first."""
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
