"""The progress of a long load, on the run's page in Prefect while it goes on.

DuckDB is asked from a thread of its own, while the load waits for the query.
"""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import duckdb
from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.loading.file_result import FileResult, counts

POLL_SECONDS = 1.0
LARGE = 20 * 2**20
"""Bytes from which on it is worth it: less is loaded in a second."""


@contextmanager
def watched(
    connected: Callable[[], duckdb.DuckDBPyConnection], size: int, estimate: Callable[[float, float], None]
) -> Generator[None, None, None]:
    """Call `estimate`, while the block lasts, with how much of the query at hand is done and the monotonic time.

    `size` is what is to be loaded, in bytes; where it is small nothing is done. The share is from 0 to 1, and DuckDB's
    estimate: by the bytes that it has read.
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
            except duckdb.Error:  # the connection is being opened anew
                continue
            if 0 <= share <= 1:
                estimate(share, time.monotonic())

    # Prefect finds the run, to which an artifact belongs, in the context.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


ARTIFACT_KEY = "progress-{}"
"""The artifact's key: of the arrival, or of the run when it loads for itself."""
AFTER = 3.0
"""Seconds that a load has to take before it gets one; most take less, and pay nothing."""
PAUSE = 2.0
"""Seconds between two updates; each is a request to Prefect's API, some 10 ms."""


@dataclass
class LoadProgress:
    """How far a run has come, by the bytes of its files: a file counts when it is loaded, skipped or rejected.

    Of the last one DuckDB may say how far it is. Methods may be called from any thread.
    """

    load_id: str
    files: int
    total: int
    """The bytes of all files."""
    began: float
    """When the load began, in seconds of any clock that does not jump."""
    logger: "logging.Logger | logging.LoggerAdapter[Any]"
    _done: int = field(default=0, init=False)
    _said: str = field(default="The first files are being loaded.", init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _told_at: float = field(init=False)
    _artifact: UUID | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._told_at = self.began + AFTER - PAUSE

    def tell(self, results: Sequence[FileResult], known: Sequence[FileResult], now: float) -> None:
        """Take these results, the last of all that are known, and show how far that is if it is time to.

        What goes wrong with Prefect meanwhile is logged and no more: the load goes on all the same.
        """
        with self._lock:
            self._done += sum(result.bytes for result in results)
            self.files -= len(results)
            self._said = f"{counts(known)}."
            is_over = self._done >= self.total
            if (is_over and self._artifact is not None) or (not is_over and now - self._told_at >= PAUSE):
                self._tell(100.0 if is_over else 100 * self._done / self.total, now)

    def estimate(self, share: float, now: float) -> None:
        """Take how much of the query at hand is done, from 0 to 1, and show it if it loads the last file."""
        with self._lock:
            if self.files == 1 and share > 0 and now - self._told_at >= PAUSE:
                self._tell(100 * (self._done + share * (self.total - self._done)) / self.total, now)

    def _tell(self, percent: float, now: float) -> None:
        self._told_at = now
        try:
            self._show(percent, self._said)
        except Exception as error:  # noqa: BLE001 - a picture of the load is no reason to end it
            self.logger.warning("the progress of the load could not be written to Prefect: %s", error)

    def _show(self, percent: float, what: str) -> None:
        if self._artifact is None:
            key = ARTIFACT_KEY.format(self.load_id)
            self._artifact = cast(UUID, create_progress_artifact(percent, key=key, description=what))
        else:
            # Not Prefect's update_progress_artifact, which opens a client each time and closes none.
            with get_client(sync_client=True) as client:
                client.update_artifact(self._artifact, ArtifactUpdate(data=round(percent, 2), description=what))
