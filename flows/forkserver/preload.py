"""Import Prefect and the heavy libraries that flows use, never a flow, and check that a fork is safe afterwards."""

import _thread
import asyncio
import gc
import importlib
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_LOCK_TYPES = (_thread.LockType, _thread.RLock)


def open_descriptors() -> dict[int, str]:
    """Return this process's open descriptors and the link target of each in /proc/self/fd."""
    found: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)  # noqa: PTH115 # `socket:[1]` is no path
        except OSError:
            continue  # the descriptor of this listing, closed by now
    return found


def unsafe_to_fork(inherited: dict[int, str]) -> list[str]:
    """Return the reasons why a fork would be unsafe, none if it is safe; `inherited` descriptors are allowed."""
    return [*_threads(), *_descriptors(inherited), *_loops(), *_held_locks()]


def _threads() -> list[str]:
    named = [f"the thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
    # Python does not list the threads of native libraries.
    native = len(list(Path("/proc/self/task").iterdir())) - len(named) - 1
    return [*named, f"{native} native threads"] if native > 0 else named


def _descriptors(inherited: dict[int, str]) -> list[str]:
    opened = {fd: what for fd, what in open_descriptors().items() if fd not in inherited}
    return [f"the descriptor {fd} of {what}" for fd, what in sorted(opened.items())]


def _loops() -> list[str]:
    loops = [one for one in gc.get_objects() if isinstance(one, asyncio.AbstractEventLoop)]
    return [f"the event loop {loop!r}" for loop in loops]


def _held_locks() -> list[str]:
    """Return the module-level locks that are held: in a child no thread would ever release them."""
    return [
        f"the held lock {module}.{name}"
        for module, loaded in list(sys.modules.items())
        for name, value in list(getattr(loaded, "__dict__", {}).items())
        if isinstance(value, _LOCK_TYPES) and _is_held(value)
    ]


def _is_held(lock: object) -> bool:
    # In Python 3.11 only the repr of an RLock shows its state for all owners.
    return "<locked" in repr(lock)


LIBRARIES = (
    "prefect",
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.artifacts",
    "prefect.cache_policies",
    "prefect.runtime.flow_run",
    "prefect.runtime.task_run",
    "prefect.runtime.deployment",
    "prefect.deployments.steps.core",
    "prefect.deployments.steps.pull",
    "duckdb",
    "httpx",
    "ijson",
    "psycopg",
    "pydantic",
    "pydantic_settings",
    "tenacity",
)
"""Add the slow imports of your flows. A library that starts a thread cannot be preloaded: the server reports it and
exits."""

PARTS = (
    "python_calamine",
    "backports.zstd",
    "anyio._backends._asyncio",
    "encodings.idna",
    "encodings.utf_8_sig",
    "prefect._internal.pytz",
    "prefect._vendor.croniter",
    "prefect.utilities.visualization",
    "pydantic.v1",
    "rich._emoji_codes",
)
"""Modules that these libraries import lazily at every run: 0.35 s in all (measured). Later versions may not need
them."""


MODELS = (
    "prefect.client.schemas.objects:DeploymentSchedule",
    "prefect.client.schemas.objects:WorkPool",
    "prefect.client.schemas.objects:WorkQueue",
    "prefect.client.schemas.responses:DeploymentResponse",
    "prefect.events:Event",
)
"""Pydantic models that Prefect builds at their first use in every run: 10 ms in all (measured)."""


def preload(names: tuple[str, ...] = LIBRARIES, parts: tuple[str, ...] = PARTS) -> None:
    """Import the libraries and freeze them for the garbage collector, so that forks share their memory."""
    gc.disable()
    for name in names:
        importlib.import_module(name)
    for name in parts:
        with suppress(ImportError):
            importlib.import_module(name)
    if "prefect" in names:
        rehearse()
    gc.collect()
    gc.freeze()


def rehearse() -> None:
    """Do the work that Prefect defers until a run needs it; names that another version lacks are skipped."""
    for model in MODELS:
        module, _, name = model.partition(":")
        with suppress(ImportError, AttributeError):
            getattr(importlib.import_module(module), name).model_rebuild()
    with suppress(ImportError, AttributeError):
        # For the deployment's schedule Prefect reads the names of all time zones: 15 ms.
        importlib.import_module("prefect.client.schemas.schedules").is_valid_timezone("UTC")


def project_modules(root: Path, own: str) -> list[str]:
    """Return the imported modules of the project, except those of the package `own`."""
    return [
        name
        for name, module in list(sys.modules.items())
        if module is not sys.modules["__main__"]  # multiprocessing gives it a second name
        and (file := getattr(module, "__file__", None))
        and Path(file).is_relative_to(root)
        and not Path(file).is_relative_to(sys.prefix)
        and name != own.partition(".")[0]
        and not f"{name}.".startswith(f"{own}.")
    ]
