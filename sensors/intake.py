"""The intake of one inbox: what lies there is seen, settles, and becomes an arrival."""

import logging
from dataclasses import dataclass
from pathlib import Path

from sensors import settle
from sensors.admission import Admission, admit, readable
from sensors.clock import Clock
from sensors.failed import FailedFolder
from sensors.identity import Identity, identity_at
from sensors.inbox import Inbox
from sensors.lease import writer_of
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.ledger.states import FileState
from sensors.settle import Sighting, Writer
from sensors.stage import Stager
from sensors.watch import Watch, WatchMode, scan

logger = logging.getLogger(__name__)

POLLING_SECONDS = 1.0
"""How often a folder without events is listed."""
WRITER_SECONDS = 0.5
"""How often a file that somebody has open is looked at again; its closing is a hint, this is the net."""


@dataclass(frozen=True)
class Step:
    """What one step of the intake did."""

    found_work: bool
    look_again_in: float
    """Seconds after which there is something to look at even if no hint comes."""


class Intake:
    """The intake of one inbox; it remembers what it saw, and the ledger remembers what it did."""

    def __init__(
        self, inbox: Inbox, watch: Watch, ledger: Ledger, stager: Stager, failed: FailedFolder, clock: Clock
    ) -> None:
        self.inbox = inbox
        self.watch = watch
        self._ledger = ledger
        self._stager = stager
        self._failed = failed
        self._clock = clock
        self._sightings: dict[Path, Sighting] = {}
        self._settled: dict[Path, Identity] = {}
        self._left_alone: set[Path] = set()
        self._rejected = ledger_files.rejected_in_place(ledger, inbox.name)
        self._scan_due = 0.0
        # What had settled before the sensor stopped has to settle again: nobody watched it since.
        before = ledger_files.waiting(ledger, inbox.name)
        ledger_files.record_unsettled(ledger, [file.id for file in before])
        self._known = {file.path for file in before}

    def step(self) -> Step:
        """Look at what changed, settle what is complete, take what has settled.

        Raises OSError when the file system refuses, sqlite3.Error when the ledger does; a later step begins anew.
        """
        self._stager.recover(self.inbox)
        now = self._clock.monotonic()
        completed = self.watch.fetch_completed()
        if completed or now >= self._scan_due:
            try:
                self._scan(completed, now)
            except Exception:
                self._scan_due = 0.0  # the hints are spent: the next look has to be a scan
                raise
            self._scan_due = now + self._rescan_seconds
        settled, next_due = self._settle(now)
        staged = self._stager.step(self.inbox)
        if staged:
            self._forget_taken()
        due = min(self._scan_due, next_due) - self._clock.monotonic()
        return Step(found_work=settled > 0 or staged, look_again_in=max(0.0, due))

    @property
    def _rescan_seconds(self) -> float:
        polled = min(POLLING_SECONDS, self.inbox.rescan_seconds)
        return self.inbox.rescan_seconds if self.watch.mode is WatchMode.EVENTS else polled

    def _scan(self, completed: set[str], now: float) -> None:
        present: dict[Path, Identity] = {}
        for entry in scan(self.inbox.path):
            identity = Identity.of(entry.status)
            ruling = admit(entry.path.name, entry.status.st_mode, self.inbox)
            match ruling.admission:
                case Admission.ADMITTED:
                    present[entry.path] = identity
                case Admission.REJECTED:
                    self._reject(entry.path, identity, ruling.reason)
                case Admission.LEFT_ALONE:
                    self._leave_alone(entry.path, ruling.reason)
        self._remember(present, completed, now)

    def _remember(self, present: dict[Path, Identity], completed: set[str], now: float) -> None:
        utc = self._clock.utc()
        new = {path: identity for path, identity in present.items() if path not in self._known}
        if new:
            ledger_files.record_seen(self._ledger, self.inbox.name, new.items(), utc)
        if gone := self._known - present.keys():
            ledger_files.record_withdrawn(self._ledger, gone, utc)
        self._known = set(present)
        changed = {path for path, identity in self._settled.items() if present.get(path) != identity}
        if changed:
            waiting = ledger_files.waiting(self._ledger, self.inbox.name)
            ledger_files.record_unsettled(self._ledger, [file.id for file in waiting if file.path in changed])
            for path in changed:
                del self._settled[path]
        self._sightings = {
            path: settle.sight(self._sightings.get(path), identity, now, completed=str(path) in completed)
            for path, identity in present.items()
            if path not in self._settled
        }

    def _settle(self, now: float) -> tuple[int, float]:
        """Settle what is complete; return how many files and when the next look is due."""
        complete: list[tuple[Path, Identity]] = []
        next_due = float("inf")
        for path, sighting in list(self._sightings.items()):
            if sighting.identity.size == 0:
                continue  # waits for its content: many writers create a file long before they fill it
            earliest = settle.complete_at(sighting, self.inbox, Writer.NONE)
            if earliest is not None and now >= earliest:
                earliest = self._prove(path, sighting, now)
                if earliest is None:
                    continue
            if earliest is not None and now >= earliest:
                complete.append((path, sighting.identity))
            else:
                next_due = min(next_due, now + WRITER_SECONDS if earliest is None else earliest)
        if complete:
            ledger_files.record_settled(self._ledger, complete, self._clock.utc())
            self._settled.update(complete)
            for path, _ in complete:
                del self._sightings[path]
        return len(complete), next_due

    def _prove(self, path: Path, sighting: Sighting, now: float) -> float | None:
        """Ask the kernel; return when the file counts as complete, or None if it is not what was seen."""
        try:
            writer = writer_of(path)
        except OSError:
            writer = Writer.UNKNOWN
        identity = identity_at(path)
        if identity is None:
            self._scan_due = now
            return None
        if identity != sighting.identity:
            self._sightings[path] = settle.sight(sighting, identity, now, completed=False)
            return now + self.inbox.quiet_seconds
        return settle.complete_at(sighting, self.inbox, writer) or now + WRITER_SECONDS

    def _reject(self, path: Path, identity: Identity, reason: str) -> None:
        written = readable(str(path))
        if self._rejected.get(written) == identity:
            return
        name = readable(path.name)
        ledger_files.record_rejected(self._ledger, self.inbox.name, written, name, identity, reason, self._clock.utc())
        self._rejected[written] = identity
        self._failed.show_refused(self.inbox.name)
        logger.warning("inbox %s: %s is rejected: %s", self.inbox.name, name, reason)

    def _leave_alone(self, path: Path, reason: str) -> None:
        if path not in self._left_alone:
            self._left_alone.add(path)
            logger.debug("inbox %s: %s is left alone: %s", self.inbox.name, readable(path.name), reason)

    def _forget_taken(self) -> None:
        """Bring what is remembered in line with the ledger after files were taken."""
        waiting = {file.path: file.state for file in ledger_files.waiting(self._ledger, self.inbox.name)}
        self._known &= waiting.keys()
        self._settled = {
            path: identity for path, identity in self._settled.items() if waiting.get(path) is FileState.SETTLED
        }
        if self._known - self._settled.keys() - self._sightings.keys():
            self._scan_due = 0.0  # some changed while they were taken, and have to settle again
