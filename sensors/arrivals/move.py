"""Taking one file: from where it was dropped to its permanent address, unless somebody is at it again.

One rename does it, while a read lease holds up whoever opens the file for writing. A file that others reach by a hard
link, or that lies on another device, is first claimed by a rename within its own folder, so that of two sensors one
wins, and is then copied. Everything can be repeated after a crash: a file is at its address, claimed, or still where it
was dropped, and never in two of these places.
"""

import errno
import logging
import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sensors.files.beneath import NOT_THERE, OpenFolders, Place, copy_content, root_of
from sensors.files.durability import sync_file_system, sync_place
from sensors.files.identity import Identity
from sensors.files.lease import read_lease
from sensors.files.rename import rename_without_replacing
from sensors.files.stability import Writer
from sensors.ledger.arrivals import ArrivalFile
from sensors.runtime.crash_points import kill_point

logger = logging.getLogger(__name__)

_WHEN_BYTES = len("20261124-140509-3f9a1c")
"""The end of an arrival's id, which is all of it that a claim's name has room for."""
COARSE_TIME_NS = 2_000_000_000
"""FAT keeps times by two seconds."""
_ANOTHER_KIND = frozenset({errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP})
"""What the kernel answers when a link, a socket or a device is opened in place of a file."""
_CANNOT_BE_READ = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE})
_CLAIM = re.compile(r"\.taking-(?P<when>\d{8}-\d{6}-[0-9a-f]{6})-\d+-(?P<name>.+)", re.DOTALL)


class Move(StrEnum):
    """What came of taking one file."""

    STAGED = "staged"
    CHANGED = "changed"  # somebody wrote to it, or put another in its place: it has to settle again
    BLOCKED = "blocked"  # it may not be moved
    GONE = "gone"  # its owner took it away, or another sensor did


def take(
    file: ArrivalFile,
    folder: Path,
    done_file: str | None = None,
    *,
    first: bool = False,
    is_synced: bool = False,
    folders: OpenFolders | None = None,
) -> Move:
    """Move one file into the arrival's folder, unless it is not the file any more that had settled.

    `done_file` is the suffix of the file that said it is complete; that one is deleted. Safe to repeat; `first` says
    that it is not repeated, so that it need not be looked for where a crash may have left it; `is_synced` says that its
    content is on the disk already, which it has to be before it moves. `folders` are kept open from one file to the
    next. Raises OSError when the file system refuses; the file is then where it was, or claimed.
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
        # Its folder was taken away, or replaced by a link, which leads to files that are not the inbox's.
        return Move.GONE if first else _finish_alone(file, target)
    taking = _Taking(file, claim_token(file, folder.name), dropped, target, is_synced)
    move = taking.begin() if first else taking.go_on()
    if move is Move.STAGED and done_file:
        _remove_done_file(dropped.beside(dropped.name + done_file))
    return move


def _remove_done_file(done: Place) -> None:
    try:
        done.remove()
    except OSError as error:  # a folder, or another user's file: the file that it was about is taken all the same
        logger.warning("%s is done with, and cannot be deleted: %s", done.name, error)


def _finish_alone(file: ArrivalFile, target: Place) -> Move:
    """Finish with a file whose folder in the inbox is not there any more."""
    if not target.exists():
        return Move.GONE
    if is_untouched(file.identity, target):
        return Move.STAGED
    put_back(target, file)
    return Move.CHANGED


def claim_name(file: ArrivalFile, arrival_id: str) -> str:
    """Return the hidden name under which a file is claimed, from which `claimed_name` tells what it was.

    It has at most 251 bytes, with the longest name that is admitted and the largest id that SQLite gives.
    """
    return _hidden(claim_token(file, arrival_id), file.path.name)


def _hidden(token: str, name: str) -> str:
    return f".taking-{token}-{name}"


def claim_token(file: ArrivalFile, arrival_id: str) -> str:
    """Return what no other claim has: the end of the arrival's id and the file's number in the ledger."""
    return f"{arrival_id[-_WHEN_BYTES:]}-{file.id}"


def claimed_name(claim: str) -> tuple[str, str] | None:
    """Return the end of the arrival's id and the file's own name that a claim's name tells; None if it is no claim.

    >>> claimed_name(".taking-20261124-140509-3f9a1c-7-orders.csv")
    ('20261124-140509-3f9a1c', 'orders.csv')
    """
    match = _CLAIM.fullmatch(claim)
    return (match["when"], match["name"]) if match else None


@dataclass(slots=True)
class _Taking:
    """One file on its way; all its places are names in folders that were opened once."""

    file: ArrivalFile
    token: str
    dropped: Place
    target: Place
    is_synced: bool

    @property
    def claim(self) -> Place:
        """Its hidden name next to where it was dropped, while it is copied."""
        return self.dropped.beside(_hidden(self.token, self.dropped.name))

    def go_on(self) -> Move:
        """Take a file that may have been taken half before a crash."""
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
        """Remove the file from where it was dropped if a crash has left it there as well, and not another one.

        A rename is a link and its removal where the file system has no other, and after a power cut two folders may
        each be as they were at another moment: what is at its address would be taken once more.
        """
        if self.dropped.identity() in {self.file.identity, moved.identity()} - {None}:
            self.dropped.remove()

    def begin(self) -> Move:
        """Take a file from where it was dropped."""
        try:
            # A process that opens the file for writing waits until the lease is released, after the rename.
            with read_lease(self.dropped.name, dir_fd=self.dropped.folder) as lease:
                if lease.writer is Writer.PRESENT or Identity.of(lease.status) != self.file.identity:
                    return Move.CHANGED
                if not self.is_synced and not lease.sync():
                    sync_file_system(self.dropped.folder)
                taken = self._claim() if lease.status.st_nlink > 1 else self._rename()
                kill_point("taken")
                # A writer may have begun to open it just before, or have put another one in its place. While it is
                # open here no other file can have its inode.
                is_untouched = taken.identity() == self.file.identity and lease.ask_again() is not Writer.PRESENT
        except FileNotFoundError:
            return Move.GONE
        except FileExistsError:
            return Move.CHANGED  # something of another kind bears our own hidden name
        except OSError as error:
            if error.errno in _ANOTHER_KIND:  # a symlink or a socket is there now
                return Move.CHANGED
            raise
        return self._confirm(is_untouched=is_untouched) if taken == self.target else self._copy()

    def _rename(self) -> Place:
        """Rename the file to its address, or to the claim if that is on another device; return where it is."""
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
        """Leave a file that was moved where it is, or put it back."""
        if is_untouched:
            return Move.STAGED
        put_back(self.target, self.file, self.dropped)
        return Move.CHANGED

    def _copy(self) -> Move:
        """Copy the claimed file to its address, and remove the claim when the copy is whole and on the disk."""
        part = self.target.beside(f".{self.target.name}.part")
        part.remove()
        try:
            is_whole = is_untouched(self.file.identity, self.claim) and self._copy_opened(part)
            if not is_whole or not is_untouched(self.file.identity, self.claim):
                part.remove()
                put_back(self.claim, self.file, self.dropped)
                return Move.CHANGED
            kill_point("copied")
            self.claim.sync_folder()  # before the copy is there: else the file may be back under its own name as well
            part.rename_over(self.target)
        except OSError as error:
            part.remove()
            if error.errno in _CANNOT_BE_READ:  # under its hidden name no one would find it
                put_back(self.claim, self.file, self.dropped)
            raise
        self.target.sync_folder()
        kill_point("copy-in-place")
        self.claim.remove()
        return Move.STAGED

    def _copy_opened(self, part: Place) -> bool:
        """Copy what the claim is, and return whether that was the file that had settled."""
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
    """Return whether a moved file is still what it was and is not written; a copy has another inode."""
    try:
        with read_lease(moved.name, dir_fd=moved.folder) as lease:
            return lease.writer is not Writer.PRESENT and _is_same(identity, lease.status)
    except OSError as error:
        if error.errno in NOT_THERE or error.errno in _ANOTHER_KIND:
            return False
        raise


def _is_same(identity: Identity, status: os.stat_result) -> bool:
    """Tell whether a stat is that of the file, or of a copy of it: of the same size, and the same time if there is one.

    A file system may keep times by two seconds only.
    """
    found = Identity.of(status)
    if not stat.S_ISREG(status.st_mode) or found == identity:
        return found == identity
    is_copy = (found.device, found.inode) != (identity.device, identity.inode)
    return is_copy and found.size == identity.size and abs(found.mtime_ns - identity.mtime_ns) <= COARSE_TIME_NS


def put_back(moved: Place, file: ArrivalFile, dropped: Place | None = None) -> str:
    """Return a file to where it was dropped, and say under which path below the inbox it is now.

    It is beside that if another one has been put there, and in the inbox itself if its folder has become a link.
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
    """Tell whether an open folder has not been deleted meanwhile."""
    return os.fstat(place.folder).st_nlink > 0


def _dropped_anew(file: ArrivalFile, folders: OpenFolders) -> tuple[str, Place]:
    """Return the place of a dropped file, whose folder is made again, and the path of that folder below the inbox."""
    root, (above, _, plain) = root_of(file.path, file.name), file.name.rpartition("/")
    try:
        return above, folders.place(root, file.name, make=True)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
    return "", folders.place(root, plain, make=True)


def copy_attributes(source: int, copy: int) -> None:
    """Give a copy the mode, the times and the extended attributes of what it was made from, by their descriptors."""
    status = os.fstat(source)
    for name in _attributes(source):
        with suppress(OSError):  # of a kind that the other file system has not, or that only root may set
            os.setxattr(copy, name, os.getxattr(source, name))
    os.fchmod(copy, stat.S_IMODE(status.st_mode) & 0o777)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))


def _attributes(source: int) -> list[str]:
    try:
        return os.listxattr(source) if sys.platform == "linux" else []
    except OSError:
        return []
