"""Prefect's settings and logging: taken over from the warm server where they would come out the same.

To make them takes Prefect 0.15 s (measured, 3.8.8), which is a third of a run's start. What they are made from is
looked at instead: the environment, the files that Prefect reads in the working directory and at home, and whether the
output is a terminal. If any of that is another than it was for the warm server, they are made anew.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

_OF_THE_RUN = ("PREFECT__", "SUPERVISOR_")
"""How the names of variables begin that differ from run to run and are no settings."""

_IN_THE_FOLDER = (".env", "prefect.toml", "pyproject.toml")


@dataclass(frozen=True)
class Ground:
    """What Prefect's settings and logging are made from."""

    environment: frozenset[tuple[bytes, bytes]]
    files: tuple[tuple[int, int, int] | None, ...]
    """Inode, time of change and size; None for one that is not there."""
    terminals: tuple[bool, ...]


def settle() -> Ground:
    """Make settings and logging as a worker's run has them, and return what from.

    A worker gives its runs its own settings as variables, some of them under other names and spellings.
    """
    from prefect.settings import get_current_settings

    os.environ.update(get_current_settings().to_environment_variables(exclude_unset=True))
    _make()
    return look()


def refresh(ground: Ground | None) -> None:
    """Make settings and logging anew, unless they would be made from the same ground."""
    if ground != look():
        _make()


def look() -> Ground:
    """Return what settings and logging would be made from here and now."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    variables = {name: value for name, value in os.environb.items() if not os.fsdecode(name).startswith(_OF_THE_RUN)}
    files = (*(Path(name) for name in _IN_THE_FOLDER), settings.profiles_path, settings.logging.config_path)
    return Ground(
        frozenset(variables.items()),
        tuple(_changed(file) for file in files),
        tuple(stream.isatty() for stream in (sys.stdout, sys.stderr)),
    )


def _make() -> None:
    import prefect.context
    from prefect.logging.configuration import setup_logging

    # Nothing else in Prefect comes from the environment at import (looked for in 3.8.8).
    prefect.context.refresh_global_settings_context()
    setup_logging(incremental=False)


def _changed(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
