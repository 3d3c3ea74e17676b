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
    GONE = "gone"  # its owner took it away, or another sensor did


def take(file: ArrivalFile, folder: Path, done_file: str | None = None) -> Move:
    """Move one file into the arrival's folder, unless it is not the file any more that had settled.

    `done_file` is the suffix of the file that said it is complete; that one is deleted. Safe to repeat. Raises
    OSError when the file system refuses; the file is then where it was, or claimed.
    """
    target = folder / file.name
    claim = file.path.with_name(claim_name(file, folder.name))
    if "/" in file.name:
        target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        move = _confirm(file, target)  # it was moved before a crash
        if move is Move.STAGED:
            claim.unlink(missing_ok=True)
    elif os.path.lexists(claim):
        move = _copy(file, claim, target)
    else:
        move = _begin(file, claim, target)
    if move is Move.STAGED and done_file:
        file.path.with_name(file.path.name + done_file).unlink(missing_ok=True)
    return move


def claim_name(file: ArrivalFile, arrival_id: str) -> str:
    """Return the hidden name under which a file is claimed, from which `claimed_name` tells what it was.

    It has at most 251 bytes, with the longest name that is admitted and the largest id that SQLite gives.
    """
    return f".taking-{arrival_id[-_WHEN_BYTES:]}-{file.id}-{file.path.name}"


def claimed_name(claim: str) -> tuple[str, str] | None:
    """Return the end of the arrival's id and the file's own name that a claim's name tells; None if it is no claim.

    >>> claimed_name(".taking-20261124-140509-3f9a1c-7-orders.csv")
    ('20261124-140509-3f9a1c', 'orders.csv')
    """
    match = _CLAIM.fullmatch(claim)
    return (match["when"], match["name"]) if match else None


def _begin(file: ArrivalFile, claim: Path, target: Path) -> Move:
    try:
        # Whoever opens the file for writing waits until the lease is released, after the rename.
        with read_lease(file.path) as writer:
            status = file.path.lstat()
            if writer is Writer.PRESENT or Identity.of(status) != file.identity:
                return Move.CHANGED
            taken = _rename(file.path, claim if status.st_nlink > 1 else target, claim)
    except FileNotFoundError:
        return Move.GONE
    except FileExistsError:
        return Move.CHANGED  # something of another kind bears our own hidden name
    except OSError as error:
        if error.errno == errno.ELOOP:  # a symlink lies there now
            return Move.CHANGED
        raise
    kill_point("taken")
    return _confirm(file, taken) if taken == target else _copy(file, claim, target)


def _rename(source: Path, destination: Path, claim: Path) -> Path:
    """Rename a file, to the claim if the destination is on another device; return where it is."""
    try:
        rename_without_replacing(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        rename_without_replacing(source, claim)
        return claim
    return destination


def _confirm(file: ArrivalFile, target: Path) -> Move:
    """Look again at a file that was moved: somebody may have begun to open it just before.

    Such an opener counts as a writer as soon as it waits for the lease, so that none can be missed (measured).
    """
    if is_untouched(file.identity, target):
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


def _sync(path: Path, flags: int = os.O_RDONLY) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)
