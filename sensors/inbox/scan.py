"""List the files in an inbox. Hints say when to look; only a scan says what is there."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensors.config.admission import is_ignored_folder
from sensors.files.beneath import NOT_THERE, Place, open_folder, open_root

Cover = Callable[[str, os.stat_result], None]
"""Called with each folder (its path below the inbox, `""` for the inbox itself) before it is listed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory entry: its path below the inbox, and its own stat (symlinks are not followed)."""

    name: str
    status: os.stat_result


LONGEST_FOLDER = 3000
"""Bytes of a folder's path below the inbox; Linux takes paths of 4,096 bytes. Deeper folders are not listed."""


def scan(inbox: Path, cover: Cover, *, subfolders: bool = False) -> Iterator[Entry]:
    """Yield the entries of an inbox, one stat each; entries that vanish meanwhile are left out.

    No symlink below the inbox is followed, and system folders such as `lost+found` and hidden ones are skipped. If a
    subfolder cannot be read, OSError is raised after everything else has been yielded; if the inbox itself cannot be
    read, it is raised immediately. Two descriptors are open at a time, however deep the folders are.
    """
    troubles: list[OSError] = []
    root = open_root(inbox)
    try:
        pending = [""]
        while pending:
            folder = pending.pop()
            try:
                descriptor = open_folder(root, folder)
            except OSError as error:
                if error.errno not in NOT_THERE:
                    troubles.append(OSError(error.errno, error.strerror, folder))
                continue
            below: list[str] = []
            yield from _folder(descriptor, folder, cover, below if subfolders else None)
            pending += reversed(below)
    finally:
        os.close(root)
    if troubles:
        raise troubles[0]


def look(inbox: Path, names: Iterable[str]) -> Iterator[Entry]:
    """Yield the entries of these names, paths below the inbox: one stat a name, however many other files there are.

    No symlink is followed, as in a scan. Raises OSError if the inbox or a folder in it cannot be read.
    """
    by_folder: dict[str, list[str]] = {"": []}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    root = open_root(inbox)
    try:
        for folder, its in by_folder.items():
            try:
                descriptor = open_folder(root, folder)
            except OSError as error:
                if error.errno in NOT_THERE:
                    continue  # the folder is gone or was replaced
                raise
            try:
                for name in its:
                    with suppress(FileNotFoundError):
                        yield Entry(name, Place(descriptor, name.rpartition("/")[2]).status())
            finally:
                os.close(descriptor)
    finally:
        os.close(root)


def _folder(descriptor: int, folder: str, cover: Cover, below: list[str] | None) -> Iterator[Entry]:
    """Yield the entries of an open folder, then close it; with `below`, its subfolders are added there instead."""
    prefix = f"{folder}/" if folder else ""
    try:
        cover(folder, os.fstat(descriptor))
        with os.scandir(descriptor) as entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                path = prefix + entry.name
                if below is None or not stat.S_ISDIR(status.st_mode) or len(os.fsencode(path)) > LONGEST_FOLDER:
                    yield Entry(path, status)
                elif not is_ignored_folder(entry.name):
                    below.append(path)
    finally:
        os.close(descriptor)
