"""The progress artifact of a long load, which Prefect's page shows as a bar on the run's page while it goes on."""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from flows.verdict import Verdict, counts

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

    def tell(self, verdicts: Sequence[Verdict], known: Sequence[Verdict], now: float) -> None:
        """Take these verdicts, the last of all that are known, and show how far that is if it is time to.

        What goes wrong with Prefect meanwhile is logged and no more: the load goes on all the same.
        """
        with self._lock:
            self._done += sum(verdict.bytes for verdict in verdicts)
            self.files -= len(verdicts)
            self._said = f"{counts(known)}."
            is_over = self._done >= self.total
            if (is_over and self._artifact is not None) or (not is_over and now - self._told_at >= PAUSE):
                self._tell(100.0 if is_over else 100 * self._done / self.total, now)

    def glimpse(self, share: float, now: float) -> None:
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
