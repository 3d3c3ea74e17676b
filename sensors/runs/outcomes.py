"""Follow the runs of arrivals to their end, record what became of each file, and set lost runs to Crashed.

A lost run is then treated like any other crash. If it is alive after all, this does no harm: its files are loaded once,
by the run that gets there first.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sensors.arrivals import manifest
from sensors.arrivals.failed_links import FailedFolder
from sensors.ledger import Ledger, announcements, arrivals
from sensors.ledger.announcements import FileOutcome
from sensors.ledger.arrivals import Arrival
from sensors.ledger.notices import Notice, first_lines
from sensors.ledger.states import ArrivalState, FileState
from sensors.runs.api import RUN_RESOURCE, PrefectApi, Run
from sensors.runs.facts import LostRuns
from sensors.runs.issues import was_cancelled_by_a_limit
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point
from sensors.runtime.json_logging import about_arrival
from sensors.runtime.text import readable

logger = logging.getLogger(__name__)

CRASHED_LIMIT = 5
"""How many runs of an arrival may crash before the arrival fails: a crash is seldom the arrival's fault."""
CRASHED_PAUSE = timedelta(seconds=2)
"""Pause before the second run; it doubles before each later one."""

FAILED_SECONDS = 5.0
FAILED_FOR = timedelta(days=30)
FAILED_MOST = 400
"""How often, for how long and for how many failed arrivals to check whether a user has retried their run."""

REMEMBERED_FOR = timedelta(days=60)
"""How far back to search the server for events of a run; Prefect keeps events for a week by default."""
UNSTARTED_LIMIT = 10
"""How many runs of an arrival may be cancelled by a concurrency limit, or deleted, before they started."""
UNSTARTED_PAUSE = timedelta(seconds=15)
"""Pause before the second of them; it doubles before each later one, up to LONGEST_PAUSE."""
LONGEST_PAUSE = timedelta(minutes=10)
TAKEN = ("prefect.flow-run.Pending", "prefect.flow-run.Running")
"""The events of a run that a worker has picked up."""
ARRIVAL_FAILED = "inbox.arrival.failed"
COLUMNS_WIDENED = "inbox.columns.widened"
UNHEARD_OF = "the server has never heard of its run"
DELETED_UNSTARTED = "its run was deleted before it started"

ARTIFACT_KEY = "arrival-{}"
"""Key of the table artifact in which a run reports what it did with each file."""

_FILE_STATES = {
    "loaded": FileState.LOADED,
    "skipped": FileState.LOADED,  # its load key exists: an earlier run loaded it
    "rejected": FileState.REJECTED,
}


@dataclass(frozen=True)
class RunOutcome:
    """Final state of an arrival and of its files."""

    state: ArrivalState
    files: tuple[FileOutcome, ...]
    reason: str | None


@dataclass
class RunFollower:
    """Follows the runs of arrivals to their end."""

    ledger: Ledger
    api: PrefectApi
    failed: FailedFolder
    lost: LostRuns
    clock: Clock
    look_at_failed_after: float = 0.0

    def step(self) -> bool:
        """Record every outcome that has come in; return whether there was one. Raises ApiError."""
        resumed = self._resume()
        running = arrivals.in_state(self.ledger, ArrivalState.RUNNING)
        if not running:
            return resumed
        runs = self.api.runs([arrival.run_id for arrival in running if arrival.run_id])
        found = resumed
        for arrival in running:
            run = runs.get(arrival.run_id or "")
            if run is None or run.ended:
                found = self._end(arrival, run) or found
            elif reason := self.lost.why_lost(run):
                logger.warning("run %s is lost: %s", run.name, reason, extra=about_arrival(arrival.id))
                self.api.crash(run.id, reason)
        return found

    def _resume(self) -> bool:
        """Follow failed runs again that a user has restarted, for example in Prefect's UI."""
        now = self.clock.monotonic()
        if now < self.look_at_failed_after:
            return False
        self.look_at_failed_after = now + FAILED_SECONDS
        failed = arrivals.failed_since(self.ledger, self.clock.utc() - FAILED_FOR, FAILED_MOST)
        by_run = {arrival.run_id: arrival.id for arrival in failed if arrival.run_id}
        runs = self.api.runs(list(by_run), unless=("FAILED", "CRASHED", "CANCELLED")) if by_run else {}
        resumed = [announcements.record_resumed(self.ledger, by_run[run.id], run.id) for run in runs.values()]
        return any(resumed)

    def _end(self, arrival: Arrival, run: Run | None) -> bool:
        now, about = self.clock.utc(), about_arrival(arrival.id)
        runs = announcements.count_runs(self.ledger, arrival.id)
        if run is not None and run.state_type == "CRASHED" and runs < CRASHED_LIMIT:
            logger.warning(
                "arrival %s: run %s crashed, announcing again: %s", arrival.id, run.name, run.message, extra=about
            )
            pause = CRASHED_PAUSE * 2 ** max(0, runs - 1)
            reason = f"run {run.name} crashed: {run.message}"
            return announcements.record_unannounced(self.ledger, arrival.id, now + pause, reason)
        if runs < UNSTARTED_LIMIT and (reason := self._why_unstarted(arrival, run)):
            logger.warning("arrival %s: %s, announcing again", arrival.id, reason, extra=about)
            pause = min(UNSTARTED_PAUSE * 2 ** max(0, runs - 1), LONGEST_PAUSE)
            return announcements.record_unannounced(self.ledger, arrival.id, now + pause, reason)
        if run is None and self._is_unheard_of(arrival):
            # The server's database is not the one that had the run: the project has moved to another, or it was lost.
            logger.warning("arrival %s: %s, announcing again", arrival.id, UNHEARD_OF, extra=about)
            return announcements.record_unannounced(self.ledger, arrival.id, now, UNHEARD_OF)
        table = None if run is None else self.api.table_artifact(ARTIFACT_KEY.format(arrival.id), run.id)
        outcome = outcome_of(run, table or [])
        found = (failed_notice(arrival, run, outcome), widened_notice(arrival, table or []))
        notices = [notice for notice in found if notice is not None]
        self._note_rejected(arrival, outcome)
        if not announcements.record_outcome(
            self.ledger, arrival.id, outcome.state, outcome.files, outcome.reason, now, notices
        ):
            return False
        kill_point("ended")
        self.failed.refresh(arrival.id)
        logger.info(
            "arrival %s: %s%s", arrival.id, outcome.state, f": {outcome.reason}" if outcome.reason else "", extra=about
        )
        return True

    def _note_rejected(self, arrival: Arrival, outcome: RunOutcome) -> None:
        """Note rejected files in the manifest, so that a user can mend them in place and retry.

        This happens before the outcome is recorded, and so before anyone can see the rejection.
        """
        rejected = {file.name for file in outcome.files if file.state is FileState.REJECTED}
        if not rejected or arrival.manifest is None:
            return
        contents = arrivals.file_contents(self.ledger, arrival.id)
        try:
            manifest.note_rejected(arrival.folder, [file for file in contents if file.name in rejected])
        except OSError as error:
            logger.warning("arrival %s: a file that is mended there cannot be loaded: %s", arrival.id, error)

    def _why_unstarted(self, arrival: Arrival, run: Run | None) -> str:
        """Return why an arrival's run ended before it started, if no user ended it, or an empty string."""
        if run is not None:
            was_limited = was_cancelled_by_a_limit(run.state_type, run.message, run.run_count)
            return f"run {run.name} was cancelled before it started: {run.message}" if was_limited else ""
        # Prefect deletes waiting runs with their deployment. If a worker had picked the run up, a user deleted it.
        since, resource = self.clock.utc() - REMEMBERED_FOR, f"{RUN_RESOURCE}{arrival.run_id}"
        was_there = self.api.has_event(None, resource, since)
        return DELETED_UNSTARTED if was_there and not self.api.has_event(TAKEN, resource, since) else ""

    def _is_unheard_of(self, arrival: Arrival) -> bool:
        """Return whether the server has no event of an arrival's run; a run that a user deleted has left some."""
        since = self.clock.utc() - REMEMBERED_FOR
        return not self.api.has_event(None, f"{RUN_RESOURCE}{arrival.run_id}", since)


def failed_notice(arrival: Arrival, run: Run | None, outcome: RunOutcome) -> Notice | None:
    """Return the notice for an arrival that failed without a failed run; a failed run has an alert of its own."""
    if outcome.state is not ArrivalState.FAILED or (run is not None and run.state_type in {"FAILED", "CRASHED"}):
        return None
    return Notice(
        key=f"failed/{arrival.id}/{arrival.run_id}",
        event=ARRIVAL_FAILED,
        inbox=arrival.inbox,
        payload=failed_payload(arrival.id, arrival.inbox, outcome.reason or "no reason was given"),
    )


def widened_notice(arrival: Arrival, table: Sequence[Mapping[str, Any]]) -> Notice | None:
    """Return the notice about columns that an arrival's run has widened, or None; `table` is its artifact's rows."""
    lines = [readable(f"{row['file']}: {line}") for row in table for line in row.get("widened") or ()]
    if not lines:
        return None
    columns = "a column" if len(lines) == 1 else f"{len(lines)} columns"
    text = [f"Inbox: {arrival.inbox}", f"Arrival: {arrival.id}", *first_lines(lines)]
    return Notice(
        key=f"widened/{arrival.id}/{arrival.run_id}",
        event=COLUMNS_WIDENED,
        inbox=arrival.inbox,
        payload={
            "arrival_id": arrival.id,
            "subject": f"A file of inbox {arrival.inbox} has widened {columns}",
            "text": "\n".join([*text, "Nothing is lost: what is in the table reads as before."]),
        },
    )


def failed_payload(arrival_id: str, inbox: str, reason: str) -> dict[str, str]:
    """Return the payload of the alert about a failed arrival."""
    next_step = f"`just retry {arrival_id}` has it loaded after all, `just dismiss {arrival_id}` settles it"
    return {
        "arrival_id": arrival_id,
        "inbox": inbox,
        "reason": reason,
        "subject": f"Arrival {arrival_id} failed",
        "text": f"Inbox: {inbox}\nArrival: {arrival_id}\nReason: {reason}\nNext: {next_step}",
    }


def outcome_of(run: Run | None, table: Sequence[Mapping[str, Any]]) -> RunOutcome:
    """Return the outcome of an arrival whose run has ended; `run` is None if it was deleted.

    `table` has the rows of the run's artifact: file, outcome, rows, reason, and widened if columns were.
    """
    if run is None:
        return RunOutcome(ArrivalState.FAILED, (), "its run was deleted")
    files = tuple(
        FileOutcome(
            str(row["file"]),
            _FILE_STATES[row["outcome"]],
            int(row.get("rows") or 0),
            row.get("reason") or None,
        )
        for row in table
        if row.get("outcome") in _FILE_STATES
    )
    if run.state_type == "COMPLETED":
        return RunOutcome(ArrivalState.LOADED, files, None)
    return RunOutcome(ArrivalState.FAILED, files, f"{run.state}: {run.message}" if run.message else run.state)
