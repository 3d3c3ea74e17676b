"""Ask the kernel whether any process has a file open for writing: it then refuses a read lease on the file."""

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
