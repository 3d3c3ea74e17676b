"""Scanning: the truth of what lies in an inbox. Hints say when to look, a scan says what there is."""

import os
import stat
from collections.abc import Callable, Iterator
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
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                opened = os.open(name, flags, dir_fd=descriptor)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                troubles.append(OSError(error.errno, error.strerror, prefix + name))
                continue
            yield from _folder(opened, f"{prefix}{name}/", cover, subfolders, troubles)
    finally:
        os.close(descriptor)
