"""The warehouse: a DuckDB file per catalog, which one process at a time may write to.

In all of flows/ it is `import duckdb` and never `from duckdb import ...`, with annotations that are not evaluated:
Prefect keeps a flow's functions alive when the interpreter ends, and a type of DuckDB's that one of them names then
prints fifty lines of "nanobind: leaked" at the end of every run (measured, DuckDB 2.0).
"""

from __future__ import annotations

import os
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random

from flows.failures import TemporaryError
from flows.memory import DEFAULT_LIMIT, bound

_NOTICE = "the warehouse {} is in use by {}; waiting for up to {:g} s"
_HOLDER = re.compile(r"Could not set lock on file .*?(\(PID \d+\))", re.DOTALL)

_opened_here: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""A lock per warehouse for the threads of this process: DuckDB would let them in together, and then fail one of them
when both change the same table."""


def warehouse_path(state_dir: Path, catalog: str) -> Path:
    """Return the path of a catalog's DuckDB file."""
    return state_dir / f"{catalog}.duckdb"


@contextmanager
def open_warehouse(
    path: Path, wait_seconds: float, on_wait: Callable[[str], None], memory_limit: str = DEFAULT_LIMIT
) -> Generator[duckdb.DuckDBPyConnection, None, None]:
    """Open a warehouse and close it again, alone: wait while another thread or process has it open.

    `on_wait` is told once that and for whom it waits. The file's stem is the catalog's name; the session's time zone
    is UTC. What does not fit into the memory limit goes into a folder next to the file while it is open. Raises
    TemporaryError when it is still in use after `wait_seconds`, or cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _opened_here[path]
    if not lock.acquire(blocking=False):
        on_wait(_NOTICE.format(path.name, "another run of this process", wait_seconds))
        if not lock.acquire(timeout=wait_seconds):
            raise TemporaryError(_still_in_use(path, "another run of this process", wait_seconds))
    try:
        connection = _connect(path, wait_seconds, on_wait)
        try:
            connection.execute("SET TimeZone = 'UTC'")
            bound(connection, memory_limit, path.with_name(f"{path.name}.tmp"))
            yield connection
        finally:
            connection.close()
    finally:
        lock.release()


def _connect(path: Path, wait_seconds: float, on_wait: Callable[[str], None]) -> duckdb.DuckDBPyConnection:
    def notice(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            on_wait(_NOTICE.format(path.name, holder(state.outcome.exception()), wait_seconds))

    # The pause is random, so that of many that wait none is always the last.
    waiting = Retrying(
        retry=retry_if_exception(lambda error: holder(error) is not None),
        stop=stop_after_delay(wait_seconds),
        wait=wait_random(0.02, 0.2),
        before_sleep=notice,
        reraise=True,
    )
    try:
        if not path.exists():
            _create(path)
        return waiting(duckdb.connect, path)
    except duckdb.IOException as error:
        who = holder(error)
        if who is None:
            raise TemporaryError(f"the warehouse {path} cannot be opened: {error}") from None
        raise TemporaryError(_still_in_use(path, who, wait_seconds)) from None


def _create(path: Path) -> None:
    """Make an empty warehouse, whole or not at all.

    On a full disk DuckDB leaves a file of 0 or 4,096 bytes behind, which it never opens again (measured, DuckDB 2.0).
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        duckdb.connect(new).close()
        with suppress(OSError):  # another run was faster, or there are no links here and DuckDB makes the file in place
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def holder(error: BaseException | None) -> str | None:
    """Return which process holds the warehouse, told by the error of opening it; None for any other error.

    >>> holder(duckdb.IOException('IO Error: Could not set lock on file "w": Conflicting lock is held in ... (PID 7)'))
    'another process (PID 7)'
    """
    found = _HOLDER.search(str(error)) if isinstance(error, duckdb.IOException) else None
    return f"another process {found[1]}" if found else None


def _still_in_use(path: Path, who: str, wait_seconds: float) -> str:
    return (
        f"the warehouse {path.name} is still in use by {who} after {wait_seconds:g} s; end that, or set"
        " WAREHOUSE_WAIT_SECONDS to wait longer"
    )
