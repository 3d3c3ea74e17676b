"""Read untrusted files within a time limit and a memory limit.

A thread watches the time and the memory of the process, and interrupts a query that exceeds a limit. DuckDB's own
memory_limit covers only its buffers: a file of 20,000 JSON keys once took 19.7 GB with a limit of 1 GB (measured).
"""

from __future__ import annotations

import ctypes
import gzip
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Self

import duckdb

from flows.errors import PipelineError
from flows.file_limits import MEGABYTE, FileLimits, LimitError

POLL_SECONDS = 0.05
"""Seconds between two checks of the memory, which take some 10 us each."""
_GROWTH = 64 * MEGABYTE
"""The growth in bytes before a file can be at fault: an earlier file may have left the process large."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


_AT_ONCE = 1 << 20
"""Bytes unpacked at a time."""


class Reader:
    """A DuckDB connection for reading files, reopened after an error has invalidated it."""

    def __init__(self, connect: Callable[[], duckdb.DuckDBPyConnection]) -> None:
        self._connect = connect
        self.connection = connect()

    def renew(self) -> bool:
        """Reopen the connection if it is no longer usable, and return whether that was necessary."""
        if is_usable(self.connection):
            return False
        with suppress(duckdb.Error):
            self.connection.close()
        self.connection = self._connect()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def is_usable(connection: duckdb.DuckDBPyConnection) -> bool:
    """Return whether a connection accepts queries; after an INTERNAL or FATAL error of DuckDB it does not."""
    try:
        connection.execute("SELECT 1").fetchall()
    except duckdb.Error:
        return False
    return True


class Guard:
    """Interrupts queries that exceed the limits on time and memory; unless entered, it only holds the limits."""

    def __init__(
        self, limits: FileLimits | None = None, connection: Callable[[], duckdb.DuckDBPyConnection] | None = None
    ) -> None:
        self.limits = limits or FileLimits()
        self._connection = connection
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._deadline = float("inf")
        self._memory = 0
        self._exceeded: LimitError | None = None

    @contextmanager
    def watching(self, files: int = 1) -> Generator[None, None, None]:
        """Apply the limits to the block, which reads this many files. Raises LimitError when one is exceeded."""
        is_outermost = self._thread is not None and not self._memory
        if is_outermost:
            self._exceeded = None
            self._deadline = time.monotonic() + self.limits.max_file_seconds * files
            self._memory = max(self.limits.run_memory_bytes, memory() + _GROWTH)
        try:
            yield
        except Exception as error:
            if self._exceeded is None or isinstance(error, PipelineError):
                raise
            raise self._exceeded from None
        finally:
            if is_outermost:
                self._memory = 0
                self._deadline = float("inf")
                if self._exceeded is not None:
                    _give_back()

    def check(self) -> None:
        """Raise LimitError if a limit is exceeded; for long work outside of a query."""
        if self._exceeded is not None:
            raise self._exceeded

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._watch, name="guard", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if self._memory and self._exceeded is None:
                self._exceeded = self._found()
            if self._memory and self._exceeded is not None and self._connection is not None:
                # Repeatedly: an interrupt between two queries of a file has no effect.
                with suppress(duckdb.Error):
                    self._connection().interrupt()

    def _found(self) -> LimitError | None:
        if time.monotonic() > self._deadline:
            return LimitError("it takes too long to load", f"{self.limits.max_file_seconds:,g} s", "MAX_FILE_SECONDS")
        if memory() > self._memory > 0:
            limit = f"{self.limits.run_memory_bytes / MEGABYTE:,.0f} MB for the run"
            return LimitError("it takes too much memory to load", limit, self.limits.run_memory_source)
        return None


def unpacked(path: Path, guard: Guard) -> Iterator[bytes]:
    """Yield the unpacked content of a gzipped file, within the limits, and check its checksum and length.

    Raises LimitError, OSError, EOFError and zlib.error.
    """
    size = 0
    with gzip.open(path) as packed:
        while some := packed.read(_AT_ONCE):
            size += len(some)
            guard.check()
            guard.limits.check_unpacked(size, at_least=True)
            yield some


def spooled(blocks: Iterable[bytes], spool: Path, suffix: str) -> Path:
    """Write a text to a new file in the folder `spool` and return its path."""
    with NamedTemporaryFile(dir=spool, suffix=suffix, delete=False) as text:
        text.writelines(blocks)
    return Path(text.name)


def memory() -> int:
    """Return the resident memory of this process in bytes; 0 if the kernel does not report it."""
    try:
        with open("/proc/self/statm", "rb") as counted:  # noqa: PTH123 - twice as fast, and called often
            return int(counted.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _give_back() -> None:
    """Make the C library return free memory to the kernel, where it can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
