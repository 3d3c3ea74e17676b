"""Move one settled file from its inbox to its permanent path, unless it has changed since it settled.

The move is one rename, made while a read lease holds up any process that opens the file for writing. A file that has
other hard links, or is on another device, is first claimed by a rename within its own folder, so that only one of two
sensors gets it, and is then copied. Every step can be repeated after a crash: a file is at its permanent path, claimed,
or still where it was dropped, and never in two of these places.
"""

import errno
import logging
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sensors.arrivals.blocked import Permissions, permissions_at, reason_of
from sensors.arrivals.duplicates import digest_of
from sensors.files.beneath import NOT_THERE, Identity, OpenFolders, Place, copy_content, place_of, root_of
from sensors.files.durability import rename_without_replacing, sync_contents, sync_file_system, sync_place
from sensors.files.stability import Writer, read_lease
from sensors.ledger.files import WaitingFile
from sensors.runtime.crash_points import kill_point
from sensors.runtime.loop import beat

logger = logging.getLogger(__name__)

_WHEN_BYTES = len("20261124-140509-3f9a1c")
"""How many bytes of an arrival's id a claim's name has room for: date, time and random suffix."""
COARSE_TIME_NS = 2_000_000_000
"""FAT stores modification times with a resolution of two seconds."""
_ANOTHER_KIND = frozenset({errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP})
"""Errors of open(2) when a symbolic link, socket or device has replaced the file."""
_CANNOT_BE_READ = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE})
_CLAIM = re.compile(r"\.taking-(?P<when>\d{8}-\d{6}-[0-9a-f]{6})-\d+-(?P<name>.+)", re.DOTALL)


class Move(StrEnum):
    """The result of moving one file."""

    STAGED = "staged"
    CHANGED = "changed"  # written to or replaced: it has to settle again
    BLOCKED = "blocked"  # it may not be moved
    GONE = "gone"  # removed from the inbox, or taken by another sensor


def take(
    file: WaitingFile,
    folder: Path,
    done_file: str | None = None,
    *,
    first: bool = False,
    is_synced: bool = False,
    folders: OpenFolders | None = None,
) -> Move:
    """Move one file into the arrival's folder, unless it is no longer the file that settled. Safe to repeat.

    `done_file` is the suffix of the marker file that signaled completeness; the marker is deleted. `first` marks the
    first attempt, which skips the search in places where a crash may have left the file. `is_synced` means that the
    content is on the disk already, as it must be before the move. `folders` is a cache of open folders to share between
    calls. Raises OSError if a file operation fails; the file is then where it was, or claimed.
    """
    if folders is None:
        with OpenFolders() as opened:
            return take(file, folder, done_file, first=first, is_synced=is_synced, folders=opened)
    target = folders.place(folder, file.name, make=True)
    try:
        dropped = folders.place(root_of(file.path, file.name), file.name)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        # Its folder was removed, or replaced by a link, which may lead out of the inbox.
        return Move.GONE if first else _finish_alone(file, target)
    taking = _Taking(file, claim_token(file, folder.name), dropped, target, is_synced)
    move = taking.begin() if first else taking.go_on()
    if move is Move.STAGED and done_file:
        _remove_done_file(dropped.beside(dropped.name + done_file))
    return move


def _remove_done_file(done: Place) -> None:
    try:
        done.remove()
    except OSError as error:  # a folder, or another user's file: the data file has been moved anyway
        logger.warning("%s is done with, and cannot be deleted: %s", done.name, error)


def _finish_alone(file: WaitingFile, target: Place) -> Move:
    """Finish the move of a file whose folder in the inbox is gone."""
    if not target.exists():
        return Move.GONE
    if is_untouched(file.identity, target):
        return Move.STAGED
    put_back(target, file)
    return Move.CHANGED


def claim_name(token: str, name: str) -> str:
    """Return the hidden name under which a file is claimed; `claimed_name` parses it.

    It has at most 251 bytes, with the longest file name that is admitted and SQLite's largest row id.
    """
    return f".taking-{token}-{name}"


def claim_token(file: WaitingFile, arrival_id: str) -> str:
    """Return a claim's unique token: the end of the arrival's id and the file's id in the ledger."""
    return f"{arrival_id[-_WHEN_BYTES:]}-{file.id}"


def claimed_name(claim: str) -> tuple[str, str] | None:
    """Return the end of the arrival's id and the file's own name from a claim's name, or None if it is no claim.

    >>> claimed_name(".taking-20261124-140509-3f9a1c-7-orders.csv")
    ('20261124-140509-3f9a1c', 'orders.csv')
    """
    match = _CLAIM.fullmatch(claim)
    return (match["when"], match["name"]) if match else None


@dataclass(slots=True)
class _Taking:
    """The move of one file; all its places are names relative to folders that were opened once."""

    file: WaitingFile
    token: str
    dropped: Place
    target: Place
    is_synced: bool

    @property
    def claim(self) -> Place:
        """The file's hidden name, next to where it was dropped, while it is copied."""
        return self.dropped.beside(claim_name(self.token, self.dropped.name))

    def go_on(self) -> Move:
        """Continue a move that a crash may have interrupted."""
        if self.target.exists():
            is_whole = is_untouched(self.file.identity, self.target)
            if is_whole:
                self.claim.remove()
                self._remove_dropped(self.target)
                sync_place(self.target)
            return self._confirm(is_untouched=is_whole)
        if self.claim.exists():
            self._remove_dropped(self.claim)
            return self._copy()
        return self.begin()

    def _remove_dropped(self, moved: Place) -> None:
        """Remove the dropped file if a crash has left it there as well; a different file of the same name stays.

        Some file systems only offer link and unlink in place of rename, and after a power cut two folders may show
        different moments. Without the removal, a file that is at its permanent path would be taken again.
        """
        if self.dropped.identity() in {self.file.identity, moved.identity()} - {None}:
            self.dropped.remove()

    def begin(self) -> Move:
        """Move a file that is still where it was dropped."""
        try:
            # A process that opens the file for writing waits until the lease is released, after the rename.
            with read_lease(self.dropped.name, dir_fd=self.dropped.folder) as lease:
                if lease.writer is Writer.PRESENT or Identity.of(lease.status) != self.file.identity:
                    return Move.CHANGED
                if not self.is_synced and not lease.sync():
                    sync_file_system(self.dropped.folder)
                taken = self._claim() if lease.status.st_nlink > 1 else self._rename()
                kill_point("taken")
                # A writer may have started to open the file just before the rename, or have replaced it. While the file
                # is open here, no other file can get its inode.
                is_untouched = taken.identity() == self.file.identity and lease.ask_again() is not Writer.PRESENT
        except FileNotFoundError:
            return Move.GONE
        except FileExistsError:
            return Move.CHANGED  # the target's or the claim's name is already in use
        except OSError as error:
            if error.errno in _ANOTHER_KIND:  # a symbolic link or a socket has replaced it
                return Move.CHANGED
            raise
        return self._confirm(is_untouched=is_untouched) if taken == self.target else self._copy()

    def _rename(self) -> Place:
        """Rename the file to its permanent path, or to the claim if that is on another device; return its place."""
        try:
            _move(self.dropped, self.target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return self._claim()
        return self.target

    def _claim(self) -> Place:
        _move(self.dropped, self.claim)
        return self.claim

    def _confirm(self, *, is_untouched: bool) -> Move:
        """Keep a moved file if it is untouched, or else put it back."""
        if is_untouched:
            return Move.STAGED
        put_back(self.target, self.file, self.dropped)
        return Move.CHANGED

    def _copy(self) -> Move:
        """Copy the claimed file to its permanent path; remove the claim once the copy is complete and on the disk."""
        part = self.target.beside(f".{self.target.name}.part")
        part.remove()
        try:
            is_whole = is_untouched(self.file.identity, self.claim) and self._copy_opened(part)
            if not is_whole or not is_untouched(self.file.identity, self.claim):
                part.remove()
                put_back(self.claim, self.file, self.dropped)
                return Move.CHANGED
            kill_point("copied")
            self.claim.sync_folder()  # before the copy: a power cut could otherwise restore the dropped name, too
            part.rename_over(self.target)
        except OSError as error:
            part.remove()
            if error.errno in _CANNOT_BE_READ:  # hidden, the file would go unnoticed
                put_back(self.claim, self.file, self.dropped)
            raise
        self.target.sync_folder()
        kill_point("copy-in-place")
        self.claim.remove()
        return Move.STAGED

    def _copy_opened(self, part: Place) -> bool:
        """Copy the claimed file; return False, without a copy, if it is not the file that settled."""
        with self.claim.reading() as source:
            if not _is_same(self.file.identity, os.fstat(source.fileno())):
                return False
            with part.create(0o600) as copy:
                copy_content(source, copy)
                copy_attributes(source.fileno(), copy.fileno())
                os.fsync(copy.fileno())
        return True


def _move(old: Place, new: Place) -> None:
    rename_without_replacing(old.name, new.name, src_dir_fd=old.folder, dst_dir_fd=new.folder)


def is_untouched(identity: Identity, moved: Place) -> bool:
    """Return whether a moved file, or its copy, is unchanged and not open for writing."""
    try:
        with read_lease(moved.name, dir_fd=moved.folder) as lease:
            return lease.writer is not Writer.PRESENT and _is_same(identity, lease.status)
    except OSError as error:
        if error.errno in NOT_THERE or error.errno in _ANOTHER_KIND:
            return False
        raise


def _is_same(identity: Identity, status: os.stat_result) -> bool:
    """Return whether a stat is that of the file, or of a copy: other inode, equal size, time within COARSE_TIME_NS."""
    found = Identity.of(status)
    if not stat.S_ISREG(status.st_mode) or found == identity:
        return found == identity
    is_copy = (found.device, found.inode) != (identity.device, identity.inode)
    return is_copy and found.size == identity.size and abs(found.mtime_ns - identity.mtime_ns) <= COARSE_TIME_NS


def put_back(moved: Place, file: WaitingFile, dropped: Place | None = None) -> str:
    """Move a file back to where it was dropped; return its path below the inbox.

    If another file has its name, it gets a new name in the same folder. If its folder was replaced by a link, it is put
    into the inbox itself.
    """
    with OpenFolders() as folders:
        above = file.name.rpartition("/")[0]
        if dropped is None or not _is_in_a_folder(dropped):
            above, dropped = _dropped_anew(file, folders)
        try:
            _move(moved, dropped)
        except FileExistsError:
            plain = Path(dropped.name)
            dropped = dropped.beside(f"{plain.stem[:150]}.{secrets.token_hex(4)}{plain.suffix[:30]}")
            logger.warning("%s was replaced while it was being taken; the first one is now %s", file.path, dropped.name)
            _move(moved, dropped)
    return f"{above}/{dropped.name}" if above else dropped.name


def _is_in_a_folder(place: Place) -> bool:
    """Return whether the open folder still exists."""
    return os.fstat(place.folder).st_nlink > 0


def _dropped_anew(file: WaitingFile, folders: OpenFolders) -> tuple[str, Place]:
    """Recreate a dropped file's folder; return the folder's path below the inbox, and the file's place in it."""
    root, (above, _, plain) = root_of(file.path, file.name), file.name.rpartition("/")
    try:
        return above, folders.place(root, file.name, make=True)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
    return "", folders.place(root, plain, make=True)


def copy_attributes(source: int, copy: int) -> None:
    """Copy mode, times and extended attributes from one open file to another, both given as descriptors."""
    status = os.fstat(source)
    for name in _attributes(source):
        with suppress(OSError):  # not supported by the other file system, or reserved to root
            os.setxattr(copy, name, os.getxattr(source, name))
    os.fchmod(copy, stat.S_IMODE(status.st_mode) & 0o777)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attributes(source: int) -> list[str]:
    try:
        return os.listxattr(source) if sys.platform == "linux" else []
    except OSError:
        return []


# Where the files of an inbox are moved from: the interface, and local folders.
#
# `sensors/remote/source.py` implements the interface for remote stores.

_NOT_THE_FILES_FAULT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Source(Protocol):
    """Moves the files of an inbox into arrivals, which is safe to repeat, and computes their digests before."""

    blocked: dict[str, str]
    """Reasons why files may not be moved, by file name."""

    def take_all(
        self, files: Sequence[WaitingFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[WaitingFile, Move]]: ...
    def sync_sources(self, files: Sequence[WaitingFile]) -> None:
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
        self, files: Sequence[WaitingFile], folder: Path, done_file: str | None, *, first: bool
    ) -> Iterator[tuple[WaitingFile, Move]]:
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

    def sync_sources(self, files: Sequence[WaitingFile]) -> None:
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
        file: WaitingFile,
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


def _is_where_it_was(file: WaitingFile) -> bool:
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


def _sync_contents(files: Sequence[WaitingFile]) -> frozenset[str]:
    """Sync the content of files before they are moved; return the names of the files that certainly are on the disk."""
    roots = {root_of(file.path, file.name) for file in files if file.path.is_absolute()}
    names = [file.name for file in files]
    return frozenset(names) if len(roots) == 1 and sync_contents(roots.pop(), names) else frozenset()
