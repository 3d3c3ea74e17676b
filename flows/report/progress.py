"""A progress artifact on the run's page in Prefect, updated during a long load.

A separate thread polls DuckDB for the progress of the query that the load is waiting for.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import duckdb
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.loading.file_result import FileResult, Outcome, counts

POLL_SECONDS = 1.0
LARGE = 20 * 2**20
"""Minimum size of a load, in bytes, for polling DuckDB: less than this is loaded in a second."""


@contextmanager
def watched(
    connected: Callable[[], duckdb.DuckDBPyConnection], size: int, estimate: Callable[[float, float], None]
) -> Generator[None, None, None]:
    """During the block, call `estimate` regularly with the current query's progress and the monotonic time.

    The progress, from 0 to 1, is DuckDB's estimate from the bytes that it has read. `size` is the load's size in bytes;
    a load smaller than LARGE is not watched.
    """
    if size < LARGE:
        yield
        return
    connected().execute("SET enable_progress_bar = true")
    connected().execute("SET enable_progress_bar_print = false")
    over = threading.Event()

    def watch() -> None:
        while not over.wait(POLL_SECONDS):
            try:
                share = connected().query_progress() / 100
            except duckdb.Error:  # the connection is being reopened
                continue
            if 0 <= share <= 1:
                estimate(share, time.monotonic())

    # Prefect reads the run that an artifact belongs to from the context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


PROGRESS_KEY = "progress-{}"
"""Formatted with the arrival's id, or with the run's id if the run has no arrival."""
AFTER = 3.0
"""Seconds before a load gets a progress artifact; most loads are shorter and cost no request."""
PAUSE = 2.0
"""Minimum seconds between two updates; each is a request to Prefect's API of some 10 ms."""


@dataclass
class LoadProgress:
    """Progress of a run, by the bytes of the files that were loaded, skipped or rejected so far.

    For the last file, DuckDB's estimate is added. Methods may be called from any thread.
    """

    load_id: str
    files: int
    total: int
    """Bytes of all files together."""
    began: float
    """When the load began, in seconds of a monotonic clock."""
    logger: logging.Logger | logging.LoggerAdapter[Any]
    _done: int = field(default=0, init=False)
    _said: str = field(default="The first files are being loaded.", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _told_at: float = field(init=False)
    _artifact: UUID | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._told_at = self.began + AFTER - PAUSE

    def update(self, results: Sequence[FileResult], known: Sequence[FileResult], now: float) -> None:
        """Add new results, which are the end of `known`, and update the artifact if that is due.

        An error from Prefect is only logged; the load continues.
        """
        with self._lock:
            self._done += sum(result.bytes for result in results)
            self.files -= len(results)
            self._said = f"{counts(known)}."
            is_over = self._done >= self.total
            if (is_over and self._artifact is not None) or (not is_over and now - self._told_at >= PAUSE):
                self._tell(100.0 if is_over else 100 * self._done / self.total, now)

    def estimate(self, share: float, now: float) -> None:
        """Update the artifact with the current query's progress, from 0 to 1, if only the last file is left."""
        with self._lock:
            if self.files == 1 and share > 0 and now - self._told_at >= PAUSE:
                self._tell(100 * (self._done + share * (self.total - self._done)) / self.total, now)

    def _tell(self, percent: float, now: float) -> None:
        self._told_at = now
        try:
            self._show(percent, self._said)
        except Exception as error:  # noqa: BLE001 - a failed progress update must not fail the load
            self.logger.warning("the progress of the load could not be written to Prefect: %s", error)

    def _show(self, percent: float, what: str) -> None:
        if self._artifact is None:
            key = PROGRESS_KEY.format(self.load_id)
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=what))
        else:
            # Not Prefect's update_progress_artifact, which opens a client for every call and never closes it.
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=round(percent, 2), description=what))


# Log lines of a run about its files: a line per file for a few, a count at intervals for many.
#
# Every line is a row in Prefect's database, and the table artifact has all files anyway.

NAMED = 20
"""Up to this many files, each gets its own line; of more files, only this many rejected ones do."""


@dataclass
class LoadLog:
    """Produces the log lines about the files of one run."""

    total: int
    """Number of files of the run."""
    began: float
    """When the run began, in seconds of a monotonic clock."""
    results: list[FileResult] = field(default_factory=list[FileResult], init=False)
    _rejected: int = field(default=0, init=False)
    _said_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._said_at = self.began

    def lines(self, results: Sequence[FileResult], now: float) -> Iterator[tuple[int, str]]:
        """Add results, and yield level and text of each line to log; `now` is on the same clock as `began`."""
        self.results.extend(results)
        for result in results:
            is_rejected = result.outcome is Outcome.REJECTED
            self._rejected += is_rejected
            if self.total <= NAMED or (is_rejected and self._rejected <= NAMED):
                yield result.log_level, str(result)
                if result.original:
                    yield logging.INFO, f"{result.file}: the error was {result.original}"
        done = len(self.results)
        if self.total > NAMED and (now - self._said_at >= PAUSE or done == self.total):
            self._said_at = now
            rate = done / max(now - self.began, 0.001)
            yield (
                logging.INFO,
                f"{done:,} of {self.total:,} files: {counts(self.results)}; {rate:,.0f} files a second",
            )
