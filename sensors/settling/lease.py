"""The kernel's word on whether somebody is writing a file: a read lease is refused while anybody is."""

import errno
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sensors.settling.settle import Writer


@contextmanager
def read_lease(path: Path) -> Generator[Writer]:
    """Hold a read lease on a regular file and say whether somebody has it open for writing.

    Linux refuses the lease (EAGAIN) while the file is open for writing, or mapped so, by any process, even after
    the descriptor is closed (fcntl(2), "Leases"). While it is held, whoever opens the file for writing waits
    until it is released. Where there are no leases, or the file is another owner's, the writer is UNKNOWN.
    So it is where we may not read the file. Raises OSError if it cannot be opened for another reason, ELOOP for a
    symlink, which is not followed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        yield Writer.UNKNOWN
        return
    try:
        yield _take(descriptor)
    finally:
        os.close(descriptor)  # releases the lease


def writer_of(path: Path) -> Writer:
    """Return whether somebody has the file at `path` open for writing, at this moment."""
    with read_lease(path) as writer:
        return writer


def _take(descriptor: int) -> Writer:
    if sys.platform != "linux":
        return Writer.UNKNOWN
    import fcntl

    try:
        # A broken lease sends a signal, SIGIO by default, which would end the process; SIGURG is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # pyright: ignore[reportAttributeAccessIssue]
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return Writer.PRESENT if error.errno == errno.EAGAIN else Writer.UNKNOWN
    return Writer.NONE
