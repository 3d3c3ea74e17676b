"""Decide when a file is complete, from observations of the file, read leases, and a monotonic clock.

1. A file is complete only after it has stayed unchanged for some time; each change starts that time again.
2. A file that a process has open for writing is not complete, however long it stays unchanged.
3. A file renamed into the inbox is complete immediately: its writer finished it elsewhere. A file that was closed after
   writing is complete after the grace period, which allows for writers that open, append and close repeatedly.
4. If neither event was noticed (the sensor was not running, or the event was lost), the quiet period decides.
5. If the kernel does not know the writers (a network mount, another owner's file), file events prove nothing, and a
   longer quiet period alone decides.
6. If the inbox expects done-files, a file is complete only with its own done-file, which must not be older than the
   file: an old one may belong to an earlier file of that name. A done-file counts like closing the file.
"""

import errno
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from sensors.files.beneath import READ, Identity
from sensors.files.durability import sync_descriptor


class Writer(StrEnum):
    """Whether a process has the file open for writing, as far as the kernel knows."""

    NONE = "none"
    PRESENT = "present"
    UNKNOWN = "unknown"


class SettlingRules(Protocol):
    """The settings of an inbox that decide when a file is complete; times are in seconds."""

    @property
    def grace_seconds(self) -> float: ...
    @property
    def quiet_seconds(self) -> float: ...
    @property
    def unproven_quiet_seconds(self) -> float: ...
    @property
    def done_file(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Observation:
    """The observations of one file so far; times are monotonic seconds."""

    identity: Identity
    unchanged_since: float
    completed_at: float | None = None
    """When the file was last closed after writing, or renamed to its name."""
    done_at: float | None = None
    """When its done-file was first observed."""
    is_renamed: bool = False
    """Whether its last event was a rename."""


def observe(
    before: Observation | None, identity: Identity, now: float, *, completed: bool, renamed: bool = False
) -> Observation:
    """Return the sighting that follows `before`, now that the file is observed with `identity`.

    `completed`: since `before` the file was closed after writing, or renamed into the inbox. `renamed`: it was only
    renamed.
    """
    if before is None or before.identity != identity:
        # A change without a new event came after the last close: the file is being written again.
        return Observation(identity, now, now if completed else None, is_renamed=completed and renamed)
    return replace(before, completed_at=now, is_renamed=renamed) if completed else before


def mark_done(sighting: Observation, now: float, *, done: bool) -> Observation:
    """Return the sighting with or without a done-file, as `done` says."""
    if done == (sighting.done_at is not None):
        return sighting
    return replace(sighting, done_at=now if done else None)


def rejectable_at(sighting: Observation, rules: SettlingRules, writer: Writer) -> float | None:
    """Return the time from which a file that the inbox does not take may be rejected, or None while it is written.

    File events prove nothing here, since a program may still rename the file; so the longer quiet period decides.
    """
    return None if writer is Writer.PRESENT else sighting.unchanged_since + rules.unproven_quiet_seconds


def complete_at(sighting: Observation, rules: SettlingRules, writer: Writer) -> float | None:
    """Return the time from which the file counts as complete if nothing changes.

    None while it is written, and while the done-file that the inbox expects is missing.
    """
    if writer is Writer.PRESENT or (rules.done_file and sighting.done_at is None):
        return None
    if sighting.done_at is not None:
        return max(sighting.done_at, sighting.unchanged_since) + rules.grace_seconds
    if writer is Writer.UNKNOWN:
        return sighting.unchanged_since + rules.unproven_quiet_seconds
    if sighting.completed_at is None:
        return sighting.unchanged_since + rules.quiet_seconds
    grace = 0.0 if sighting.is_renamed else rules.grace_seconds
    return max(sighting.completed_at, sighting.unchanged_since) + grace


# Ask the kernel whether any process has a file open for writing: it then refuses a read lease on the file.

if sys.platform == "linux":
    import fcntl
else:
    fcntl = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A read lease that is held, or the reason why there is none."""

    writer: Writer
    """Whether a process had the file open for writing when the lease was requested."""
    status: os.stat_result
    """The stat of the file that was opened; by now the name may belong to another file."""
    _descriptor: int | None = None

    def ask_again(self) -> Writer:
        """Return whether a process has the file open for writing now.

        A process whose open for writing waits for the lease counts already, so no writer can be missed (measured).
        """
        return Writer.UNKNOWN if self._descriptor is None else _ask(self._descriptor)

    def sync(self) -> bool:
        """Write the file's content to the disk; return False if the file could not be opened. Raises OSError."""
        if self._descriptor is not None:
            sync_descriptor(self._descriptor)
        return self._descriptor is not None


@contextmanager
def read_lease(path: Path | str, *, dir_fd: int | None = None) -> Generator[Lease]:
    """Hold a read lease on a regular file inside the block; it says whether a process has the file open for writing.

    A relative path starts at the directory descriptor.

    Linux refuses the lease (EAGAIN) while any process has the file open for writing, or has it mapped for writing, even
    after the descriptor is closed (fcntl(2), "Leases"). While the lease is held, a process that opens the file for
    writing waits until it is released. The writer is UNKNOWN where there are no leases, if the file has another owner,
    or if it may not be read. Raises OSError if it cannot be opened for another reason, with ELOOP for a symlink, which
    is not followed.
    """
    try:
        descriptor = os.open(path, READ, dir_fd=dir_fd)
    except PermissionError:
        yield Lease(Writer.UNKNOWN, os.stat(path, dir_fd=dir_fd, follow_symlinks=False))
        return
    try:
        yield Lease(_take(descriptor), os.fstat(descriptor), descriptor)
    finally:
        os.close(descriptor)  # releases the lease


def writer_of(path: Path | str, *, dir_fd: int | None = None) -> Writer:
    """Return whether a process has the file at `path` open for writing at this moment."""
    with read_lease(path, dir_fd=dir_fd) as lease:
        return lease.writer


def _take(descriptor: int) -> Writer:
    if fcntl is None:
        return Writer.UNKNOWN
    with suppress(OSError):
        # A broken lease sends a signal, SIGIO by default, which would end the process; SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # pyright: ignore[reportAttributeAccessIssue]
        return _ask(descriptor)
    return Writer.UNKNOWN


def _ask(descriptor: int) -> Writer:
    if fcntl is None:
        return Writer.UNKNOWN
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Writer.PRESENT if error.errno == errno.EAGAIN else Writer.UNKNOWN
    return Writer.NONE
