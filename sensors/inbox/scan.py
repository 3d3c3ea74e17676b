"""Scanning: the truth of what lies in an inbox. Hints say when to look, a scan says what there is."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sensors.config.admission import is_ignored_folder
from sensors.files.beneath import NOT_THERE, Place, open_folder, open_root

Cover = Callable[[str, os.stat_result], None]
"""Is told of each folder (its path below the inbox, `""` for the inbox) before it is listed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One directory entry, its path below the inbox, and the stat of itself, a symlink not followed."""

    name: str
    status: os.stat_result


LONGEST_FOLDER = 3000
"""Bytes of a folder's path below the inbox; Linux takes paths of 4,096 bytes. What is deeper is not listed."""


def scan(inbox: Path, cover: Cover, *, subfolders: bool = False) -> Iterator[Entry]:
    """Yield what lies in an inbox, one stat each; what vanishes meanwhile is left out.

    No symlink below the inbox is followed, and hidden folders are passed over. A subfolder that cannot be read hides
    none of the others: OSError is raised for it when all that can be read has been yielded, for the inbox itself at
    once. Two descriptors are open at a time, however deep the folders are.
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
    """Yield what lies under these names, paths below the inbox: one stat a name, whatever else lies there.

    No symlink is followed, as in a scan. Raises OSError for the inbox itself, and for a folder that cannot be read.
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
                    continue  # it is no folder of ours any more
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
    """Yield the entries of an open folder, which is closed then; with `below` its folders go there instead."""
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
