"""The installation: a stamp of everything that was imported from, which changes when packages do."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

_MARKS = (".dist-info", ".egg-info", ".egg-link", ".pth")
"""How the names end of what an installer writes next to each package, anew at every installation."""

Stamp = frozenset[tuple[str, int]]


def read_stamp(folders: Iterable[str] = tuple(sys.path)) -> Stamp:
    """Return when the packages in the folders, the interpreter and this package were last changed."""
    return frozenset({*_marks(folders), *_interpreter(), *_own()})


def _marks(folders: Iterable[str]) -> Iterable[tuple[str, int]]:
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                marks = [entry for entry in entries if entry.name.endswith(_MARKS)]
        except OSError:
            continue  # no folder, but a zip file, or gone
        for mark in marks:
            yield from _changed(Path(mark.path))


def _interpreter() -> Iterable[tuple[str, int]]:
    executable = Path(sys.executable)
    yield from _changed(executable)  # through its links
    yield from _changed(executable.parent.parent / "pyvenv.cfg")


def _own() -> Iterable[tuple[str, int]]:
    for file in Path(__file__).parent.glob("*.py"):
        yield from _changed(file)


def _changed(path: Path) -> Iterable[tuple[str, int]]:
    try:
        yield str(path), path.stat().st_mtime_ns
    except OSError:
        return
