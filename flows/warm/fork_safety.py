"""Fork safety: what a process must not have when it forks, because half of it would be missing in the child."""

import _thread
import asyncio
import gc
import os
import sys
import threading
from pathlib import Path

_LOCK_TYPES = (_thread.LockType, _thread.RLock)


def open_descriptors() -> dict[int, str]:
    """Return this process's open descriptors and what each one is."""
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)  # noqa: PTH115 # `socket:[1]` is no path
        except OSError:
            continue  # the one of this listing
    return found


def unsafe_to_fork(inherited: dict[int, str]) -> list[str]:
    """Name what stands in the way of a fork, nothing being best; `inherited` are the descriptors we may have."""
    return [*_threads(), *_descriptors(inherited), *_loops(), *_held_locks()]


def _threads() -> list[str]:
    named = [f"the thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
    # Threads of native libraries have no name in Python.
    native = len(list(Path("/proc/self/task").iterdir())) - len(named) - 1
    return [*named, f"{native} native threads"] if native > 0 else named


def _descriptors(inherited: dict[int, str]) -> list[str]:
    opened = {fd: what for fd, what in open_descriptors().items() if fd not in inherited}
    return [f"the descriptor {fd} of {what}" for fd, what in sorted(opened.items())]


def _loops() -> list[str]:
    loops = [one for one in gc.get_objects() if isinstance(one, asyncio.AbstractEventLoop)]
    return [f"the event loop {loop!r}" for loop in loops]


def _held_locks() -> list[str]:
    """Name the locks that are held, of those that lie in modules: nobody would ever release them in a child."""
    return [
        f"the held lock {module}.{name}"
        for module, loaded in list(sys.modules.items())
        for name, value in list(getattr(loaded, "__dict__", {}).items())
        if isinstance(value, _LOCK_TYPES) and _is_held(value)
    ]


def _is_held(lock: object) -> bool:
    # An RLock of 3.11 tells in its text only; whose it is does not matter.
    return "<locked" in repr(lock)
