"""Where an inbox's files are taken from: a local folder here, a remote store in sensors/remote/source.py."""

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


class Origin(Protocol):
    """Takes the files of an inbox, each safe to repeat, and reads them before that."""

    blocked: dict[str, str]
    """Why files may not be moved, by their names."""

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]: ...
    def sync_sources(self, files: Sequence[ArrivalFile]) -> None:
        """Make it last that files are where they came from no more, once it lasts that they are in the arrival."""
        ...

    def digest(self, file: WaitingFile) -> str | None: ...
    def permissions_of(self, path: str) -> Permissions:
        """Return what decides whether a file may be moved, as far as it is cheap to know."""
        ...


@dataclass
class LocalOrigin:
    """Folders of this machine."""

    blocked: dict[str, str] = field(default_factory=dict[str, str])

    def take_all(
        self, files: Sequence[ArrivalFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[ArrivalFile, Move]]:
        """Take one file after the other into an arrival's folder; raises OSError when the file system refuses."""
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
                    if error.errno not in NOT_THERE:  # its owner has taken the folder away
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
            # One bad file must not hold up the good ones: it stays where it is and waits.
            self.blocked[file.name] = reason_of(error, file.path)
            return Move.BLOCKED

    def permissions_of(self, path: str) -> Permissions:
        """Return the rights of a file and its folder."""
        return permissions_at(path)

    def digest(self, file: WaitingFile) -> str | None:
        """Return the SHA-256 of a file that has settled; None if it is not that file any more."""
        return digest_of(root_of(file.path, file.name), file.name, file.identity)


def _is_where_it_was(file: ArrivalFile) -> bool:
    """Tell whether a file that could not be moved has not been moved half."""
    try:
        with place_of(root_of(file.path, file.name), file.name) as place:
            return place.identity() == file.identity
    except OSError:
        return False


def can_be_written(folder: Path) -> bool:
    """Tell whether files may be put into an arrival's folder, by doing it."""
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        probe.unlink()
    except OSError:
        return False
    return True


def _sync_contents(files: Sequence[ArrivalFile]) -> frozenset[str]:
    """Have what files hold written to the disk before they move; return the names of those of which that is certain."""
    roots = {root_of(file.path, file.name) for file in files if file.path.is_absolute()}
    names = [file.name for file in files]
    return frozenset(names) if len(roots) == 1 and sync_contents(roots.pop(), names) else frozenset()
