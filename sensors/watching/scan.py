"""Scanning: the truth of what lies in an inbox. Hints say when to look, a scan says what there is."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Cover = Callable[[str, os.stat_result], None]
"""Is told of each folder (its path below the inbox, `""` for the inbox) before it is listed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory entry, its path below the inbox, and the stat of itself, a symlink not followed."""

    name: str
    status: os.stat_result


def scan(inbox: Path, cover: Cover, *, subfolders: bool = False) -> Iterator[Entry]:
    """Yield what lies in an inbox, one stat each; what vanishes meanwhile is left out.

    No symlink below the inbox is followed, and hidden folders are passed over. A subfolder that cannot be read hides
    none of the others: OSError is raised for it when all that can be read has been yielded, for the inbox itself at
    once.
    """
    troubles: list[OSError] = []
    descriptor = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    yield from _folder(descriptor, "", cover, subfolders, troubles)
    if troubles:
        raise troubles[0]


def look(inbox: Path, names: Iterable[str]) -> Iterator[Entry]:
    """Yield what lies under these names, paths below the inbox: one stat a name, whatever else lies there.

    No symlink is followed, as in a scan. Raises OSError for the inbox itself, and for a folder that cannot be read.
    """
    by_folder: dict[str, list[str]] = {"": []}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, its in by_folder.items():
        descriptor = _open(inbox, folder)
        if descriptor is None:
            continue
        try:
            for name in its:
                with suppress(FileNotFoundError):
                    yield Entry(name, os.stat(name.rpartition("/")[2], dir_fd=descriptor, follow_symlinks=False))
        finally:
            os.close(descriptor)


def _open(inbox: Path, folder: str) -> int | None:
    """Return a descriptor of a folder below the inbox, or None if it is no folder of ours any more."""
    descriptor = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in folder.split("/") if folder else ():
        try:
            below = os.open(part, _BELOW, dir_fd=descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


_BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _folder(descriptor: int, prefix: str, cover: Cover, subfolders: bool, troubles: list[OSError]) -> Iterator[Entry]:
    """Yield the entries of an open folder and of those below it; closes it."""
    try:
        cover(prefix.rstrip("/"), os.fstat(descriptor))
        below: list[str] = []
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if subfolders and stat.S_ISDIR(status.st_mode):
                    below += [] if entry.name.startswith(".") else [entry.name]
                else:
                    yield Entry(prefix + entry.name, status)
        for name in below:
            try:
                opened = os.open(name, _BELOW, dir_fd=descriptor)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                troubles.append(OSError(error.errno, error.strerror, prefix + name))
                continue
            yield from _folder(opened, f"{prefix}{name}/", cover, subfolders, troubles)
    finally:
        os.close(descriptor)
