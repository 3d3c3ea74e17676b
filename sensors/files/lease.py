"""The kernel's word on whether somebody is writing a file: a read lease is refused while anybody is."""

import errno
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sensors.files.beneath import READ
from sensors.files.durability import sync_descriptor
from sensors.files.stability import Writer

if sys.platform == "linux":
    import fcntl
else:
    fcntl = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A read lease that is held, or why there is none."""

    writer: Writer
    """Whether somebody had the file open for writing when the lease was asked for."""
    status: os.stat_result
    """The stat of what was opened, and not of what has the name by now."""
    _descriptor: int | None = None

    def ask_again(self) -> Writer:
        """Return whether somebody has the file open for writing now.

        Who has begun to open it counts as soon as it waits for the lease, so that none can be missed (measured).
        """
        return Writer.UNKNOWN if self._descriptor is None else _ask(self._descriptor)

    def sync(self) -> bool:
        """Have the file's content written to the disk; False if it could not be opened. Raises OSError."""
        if self._descriptor is not None:
            sync_descriptor(self._descriptor)
        return self._descriptor is not None


@contextmanager
def read_lease(path: Path | str, *, dir_fd: int | None = None) -> Generator[Lease]:
    """Hold a read lease on a regular file, which says whether somebody has it open for writing.

    A relative path is taken from the directory descriptor.

    Linux refuses the lease (EAGAIN) while the file is open for writing, or mapped so, by any process, even after
    the descriptor is closed (fcntl(2), "Leases"). While it is held, whoever opens the file for writing waits
    until it is released. Where there are no leases, or the file is another owner's, the writer is UNKNOWN.
    So it is where we may not read the file. Raises OSError if it cannot be opened for another reason, ELOOP for a
    symlink, which is not followed.
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
    """Return whether somebody has the file at `path` open for writing, at this moment."""
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
