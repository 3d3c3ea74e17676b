"""A reserve of file descriptors, so that an alert can still be sent when the sensor has used up all others."""

import resource
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
