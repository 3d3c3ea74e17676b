"""Limit the heaps of glibc's malloc and return unused memory to the system; without glibc nothing is done."""

import ctypes
import sys

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
