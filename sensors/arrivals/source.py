"""Where the files of an inbox are moved from: the interface, and local folders.

`sensors/remote/source.py` implements the interface for remote stores.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sensors.arrivals.blocked import Permissions, permissions_at, reason_of
from sensors.arrivals.duplicates import digest_of
from sensors.arrivals.move import Move, take
from sensors.files.beneath import NOT_THERE, OpenFolders, place_of, root_of
from sensors.files.durability import sync_contents
from sensors.ledger.arrivals import ArrivalFile
from sensors.ledger.files import WaitingFile
from sensors.runtime.loop import beat

_NOT_THE_FILES_FAULT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Source(Protocol):
    """Moves the files of an inbox into arrivals, which is safe to repeat, and computes their digests before."""

    blocked: dict[str, str]
    """Reasons why files may not be moved, by file name."""

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]: ...
    def sync_sources(self, files: Sequence[ArrivalFile]) -> None:
        """Sync the removal of moved files from their inbox; call it after the arrival's folder is synced."""
        ...

    def digest(self, file: WaitingFile) -> str | None: ...
    def permissions_of(self, path: str) -> Permissions:
        """Return the permissions that decide whether a file may be moved, as far as they are cheap to read."""
        ...


@dataclass
class LocalSource:
    """An inbox in a local folder."""

    blocked: dict[str, str] = field(default_factory=dict[str, str])

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]:
        """Move the files one by one into an arrival's folder.

        Raises OSError, except for an error that concerns only one file which can stay in its inbox.
        """
        self.blocked.clear()
        synced = _sync_contents(files) if first else frozenset[str]()
        with OpenFolders() as folders:
            for file in files:
                beat()
                move = self._take(file, folder, done_file, folders, first=first, is_synced=file.name in synced)
                yield file, move

    def sync_sources(self, files: Sequence[ArrivalFile]) -> None:
        """Sync the folders that lost a file. Raises OSError."""
        with OpenFolders() as folders:
            for root, folder in {(root_of(file.path, file.name), file.name.rpartition("/")[0]) for file in files}:
                try:
                    folders.place(root, f"{folder}/*" if folder else "*").sync_folder()
                except OSError as error:
                    if error.errno not in NOT_THERE:  # otherwise the folder was removed
                        raise

    def _take(
        self,
        file: ArrivalFile,
        folder: Path,
        done_file: str | None,
        folders: OpenFolders,
        *,
        first: bool,
        is_synced: bool,
    ) -> Move:
        if not file.path.is_absolute():
            raise OSError(
                f"{file.name} was being taken from {file.path} when its inbox became a folder here;"
                " set the `url` back until `just status` shows nothing in flight"
            )
        try:
            return take(file, folder, done_file, first=first, is_synced=is_synced, folders=folders)
        except OSError as error:
            if error.errno in _NOT_THE_FILES_FAULT or not _is_where_it_was(file) or not can_be_written(folder):
                raise
            # A file that cannot be moved must not hold up the others: it stays in the inbox and is retried.
            self.blocked[file.name] = reason_of(error, file.path)
            return Move.BLOCKED

    def permissions_of(self, path: str) -> Permissions:
        return permissions_at(path)

    def digest(self, file: WaitingFile) -> str | None:
        """Return the SHA-256 of a settled file, or None if it has changed or cannot be read."""
        return digest_of(root_of(file.path, file.name), file.name, file.identity)


def _is_where_it_was(file: ArrivalFile) -> bool:
    """Return whether a file whose move failed is still in the inbox, unchanged."""
    try:
        with place_of(root_of(file.path, file.name), file.name) as place:
            return place.identity() == file.identity
    except OSError:
        return False


def can_be_written(folder: Path) -> bool:
    """Return whether files can be created in an arrival's folder, by creating one."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError:
        return False
    return True


def _sync_contents(files: Sequence[ArrivalFile]) -> frozenset[str]:
    """Sync the content of files before they are moved; return the names of the files that certainly are on the disk."""
    roots = {root_of(file.path, file.name) for file in files if file.path.is_absolute()}
    names = [file.name for file in files]
    return frozenset(names) if len(roots) == 1 and sync_contents(roots.pop(), names) else frozenset()
