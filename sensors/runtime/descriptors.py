"""A reserve of file descriptors, so that an alert can still be sent when the sensor has used up all others."""

import ctypes
import resource
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

RESERVE = 64
"""Enough for a few channels at the same time: sockets, certificates, the log."""
_SMALLEST_LIMIT = 512
"""A smaller limit is not lowered."""

_lock = threading.Lock()


def keep_reserve() -> None:
    """Lower this process's soft limit so that `RESERVE` descriptors are left below the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft > hard - RESERVE and hard >= _SMALLEST_LIMIT:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard - RESERVE, hard))


@contextmanager
def reserve_opened() -> Generator[None]:
    """Raise the soft limit to the hard limit inside the block."""
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            yield
        finally:
            now = resource.getrlimit(resource.RLIMIT_NOFILE)
            with suppress(OSError, ValueError):
                if now == (hard, hard):  # a limit that other code has set meanwhile stays
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Limit the heaps of glibc's malloc and return unused memory to the system; without glibc nothing is done.

_ARENAS = 2
_M_ARENA_MAX = -8  # malloc.h
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_set_option = getattr(_libc, "mallopt", None)
_trim = getattr(_libc, "malloc_trim", None)


def share_memory() -> None:
    """Have all threads share two heaps; call it before they start.

    By default glibc gives each thread a heap of its own, which keeps the memory that it once had. The sensor has a
    thread for each inbox, and only one of them at a time holds Python's lock anyway.
    """
    if _set_option is not None:
        _set_option(_M_ARENA_MAX, _ARENAS)


def give_back_memory() -> None:
    """Return unused pages to the system, which takes some milliseconds; by default glibc keeps most of them.

    A scan of 100,000 files leaves some 20 MB of unused pages.
    """
    if _trim is not None:
        _trim(0)
