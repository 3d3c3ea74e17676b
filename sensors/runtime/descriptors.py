"""File descriptors kept in reserve, so that an alert can be sent when the sensor has none left."""

import resource
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

RESERVE = 64
"""As many as a few channels need at the same time: sockets, certificates, the log."""
_SMALLEST_LIMIT = 512
"""A smaller limit is left as it is."""

_lock = threading.Lock()


def keep_reserve() -> None:
    """Lower the limit of this process by the reserve where it is as high as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft > hard - RESERVE and hard >= _SMALLEST_LIMIT:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard - RESERVE, hard))


@contextmanager
def reserve_opened() -> Generator[None]:
    """Raise the limit to what the system allows for the length of a block."""
    with _lock:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            yield
        finally:
            now = resource.getrlimit(resource.RLIMIT_NOFILE)
            with suppress(OSError, ValueError):
                if now == (hard, hard):  # a limit that someone has set meanwhile stays
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
