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
import shutil
from enum import StrEnum
from pathlib import Path

from sensors.identity import Identity, identity_at
from sensors.killpoint import kill_point
from sensors.ledger.arrivals import ArrivalFile
from sensors.settling.lease import read_lease, writer_of
from sensors.settling.settle import Writer
from sensors.staging.rename import rename_without_replacing

logger = logging.getLogger(__name__)

_WHEN_BYTES = len("20261124-140509-3f9a1c")
"""The end of an arrival's id, which is all of it that a claim's name has room for."""
_CLAIM = re.compile(r"\.taking-(?P<when>\d{8}-\d{6}-[0-9a-f]{6})-\d+-(?P<name>.+)", re.DOTALL)


class Move(StrEnum):
    """What came of taking one file."""

    STAGED = "staged"
    CHANGED = "changed"  # somebody wrote to it, or put another in its place: it has to settle again
    BLOCKED = "blocked"  # it may not be moved
    GONE = "gone"  # its owner took it away, or another sensor did


def take(file: ArrivalFile, folder: Path, done_file: str | None = None, *, first: bool = False) -> Move:
    """Move one file into the arrival's folder, unless it is not the file any more that had settled.

    `done_file` is the suffix of the file that said it is complete; that one is deleted. Safe to repeat; `first` says
    that it is not repeated, so that it need not be looked for where a crash may have left it. Raises OSError when the
    file system refuses; the file is then where it was, or claimed.
    """
    target = folder / file.name
    if "/" in file.name:
        target.parent.mkdir(parents=True, exist_ok=True)
    move = _begin(file, target) if first else _go_on(file, target)
    if move is Move.STAGED and done_file:
        file.path.with_name(file.path.name + done_file).unlink(missing_ok=True)
    return move


def _go_on(file: ArrivalFile, target: Path) -> Move:
    """Take a file that may have been taken half before a crash."""
    claim = _claim_of(file, target)
    if os.path.lexists(target):
        is_whole = is_untouched(file.identity, target)
        if is_whole:
            claim.unlink(missing_ok=True)
        return _confirm(file, target, is_untouched=is_whole)
    if os.path.lexists(claim):
        return _copy(file, claim, target)
    return _begin(file, target)


def _claim_of(file: ArrivalFile, target: Path) -> Path:
    folder = target.parents[file.name.count("/")]
    return file.path.with_name(claim_name(file, folder.name))


def claim_name(file: ArrivalFile, arrival_id: str) -> str:
    """Return the hidden name under which a file is claimed, from which `claimed_name` tells what it was.

    It has at most 251 bytes, with the longest name that is admitted and the largest id that SQLite gives.
    """
    return f".taking-{claim_token(file, arrival_id)}-{file.path.name}"


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


def _begin(file: ArrivalFile, target: Path) -> Move:
    try:
        # Whoever opens the file for writing waits until the lease is released, after the rename.
        with read_lease(file.path) as lease:
            status = os.lstat(file.path)
            if lease.writer is Writer.PRESENT or Identity.of(status) != file.identity:
                return Move.CHANGED
            taken = _claim(file, target) if status.st_nlink > 1 else _rename(file, target)
            kill_point("taken")
            # Somebody may have begun to open it just before, or have put another one in its place.
            is_untouched = identity_at(taken) == file.identity and lease.ask_again() is not Writer.PRESENT
    except FileNotFoundError:
        return Move.GONE
    except FileExistsError:
        return Move.CHANGED  # something of another kind bears our own hidden name
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symlink lies there now
            return Move.CHANGED
        raise
    return _confirm(file, target, is_untouched=is_untouched) if taken == target else _copy(file, taken, target)


def _rename(file: ArrivalFile, target: Path) -> Path:
    """Rename a file to its address, or to the claim if that is on another device; return where it is."""
    try:
        rename_without_replacing(file.path, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return _claim(file, target)
    return target


def _claim(file: ArrivalFile, target: Path) -> Path:
    claim = _claim_of(file, target)
    rename_without_replacing(file.path, claim)
    return claim


def _confirm(file: ArrivalFile, target: Path, *, is_untouched: bool) -> Move:
    """Leave a file that was moved where it is, or put it back."""
    if is_untouched:
        return Move.STAGED
    put_back(target, file.path)
    return Move.CHANGED


def is_untouched(identity: Identity, moved: Path) -> bool:
    """Tell whether a moved file is still what it was and nobody writes it; a copy has another inode."""
    found = identity_at(moved)
    if found is None or writer_of(moved) is Writer.PRESENT:
        return False
    is_copy = (found.device, found.inode) != (identity.device, identity.inode)
    return is_copy or found == identity


def _copy(file: ArrivalFile, claim: Path, target: Path) -> Move:
    """Copy a claimed file to its address, and remove the claim when the copy is whole and on the disk."""
    part = target.with_name(f".{target.name}.part")
    try:
        if is_untouched(file.identity, claim):
            shutil.copyfile(claim, part, follow_symlinks=False)
            shutil.copystat(claim, part, follow_symlinks=False)
            _sync(part)
        if not is_untouched(file.identity, claim):
            part.unlink(missing_ok=True)
            put_back(claim, file.path)
            return Move.CHANGED
        kill_point("copied")
        part.rename(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    kill_point("copy-in-place")
    claim.unlink()
    return Move.STAGED


def put_back(moved: Path, dropped: Path) -> Path:
    """Return a file to where it was dropped; under a name next to it if somebody has put another one there."""
    dropped.parent.mkdir(parents=True, exist_ok=True)
    try:
        rename_without_replacing(moved, dropped)
    except FileExistsError:
        beside = dropped.with_name(f"{dropped.stem[:150]}.{secrets.token_hex(4)}{dropped.suffix[:30]}")
        logger.warning("%s was replaced while it was being taken; the first one is now %s", dropped, beside.name)
        rename_without_replacing(moved, beside)
        return beside
    return dropped


def _sync(path: Path | str, flags: int = os.O_RDONLY) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path | str) -> None:
    """Make the renames in a folder survive a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
