"""The intake of one inbox: what lies there is seen, settles, and becomes an arrival."""

import logging
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sensors.clock import Clock
from sensors.identity import Identity, identity_at
from sensors.inbox import EmptyFiles, Inbox
from sensors.killpoint import kill_point
from sensors.ledger import Ledger
from sensors.ledger import files as ledger_files
from sensors.ledger.files import Dropped
from sensors.settling import settle
from sensors.settling.admission import Admission, admit
from sensors.settling.lease import writer_of
from sensors.settling.lying import Look, LyingFiles
from sensors.settling.refusal import Refusals
from sensors.settling.settle import Writer
from sensors.staging.stage import Stager
from sensors.watching.scan import scan
from sensors.watching.watch import Hints, Watch, WatchMode

logger = logging.getLogger(__name__)

POLLING_SECONDS = 1.0
"""How often a folder without events is listed."""
WRITER_SECONDS = 0.5
"""How often a file that somebody has open is looked at again; its closing is a hint, this is the net."""
SCAN_SHARE = 0.02
"""The safety net may take this share of the time: a folder that takes a second to list is listed once a minute."""
EMPTY = "the file is empty"


@dataclass(frozen=True)
class Step:
    """What one step of the intake did."""

    found_work: bool
    look_again_in: float
    """Seconds after which there is something to look at even if no hint comes."""


class Intake:
    """The intake of one inbox; it remembers what it saw, and the ledger remembers what it did."""

    def __init__(
        self, inbox: Inbox, watch: Watch, ledger: Ledger, stager: Stager, refusals: Refusals, clock: Clock
    ) -> None:
        self.inbox = inbox
        self.watch = watch
        self._ledger = ledger
        self._stager = stager
        self._refusals = refusals
        self._clock = clock
        self._lying = LyingFiles()
        self._scan_due = 0.0
        self._before: set[Path] = set()
        """What waited according to the ledger when the memory was empty, until a scan has told what is there."""
        self._has_begun = False

    def step(self) -> Step:
        """Look at what changed, settle what is complete, take what has settled.

        Raises OSError when the file system refuses, sqlite3.Error when the ledger does; a later step begins anew.
        """
        try:
            return self._step()
        except sqlite3.Error:
            self._has_begun = False  # what is remembered may not be in the ledger: begin as after a crash
            raise

    def _begin(self) -> None:
        """Forget everything and begin with what the ledger knows."""
        self._lying.clear()
        self._before = {file.path for file in ledger_files.waiting(self._ledger, self.inbox.name)}
        # What had settled has to settle again: nobody watched it since.
        ledger_files.record_unsettled(self._ledger, self._before)
        self._scan_due = 0.0
        self._has_begun = True

    def _step(self) -> Step:
        if not self._has_begun:
            self._begin()
        self._return(self._stager.recover(self.inbox))
        now = self._clock.monotonic()
        hints = self.watch.fetch()
        if hints or now >= self._scan_due:
            self._scan_due = 0.0  # the hints are spent: if this look fails, the next has to be a scan as well
            self._scan(hints, now)
            lasted = self._clock.monotonic() - now
            self._scan_due = now + max(self._rescan_seconds, lasted / SCAN_SHARE)
        settled, next_due = self._settle(now)
        taken = self._stager.step(self.inbox)
        if taken is not None:
            for name, identity, reason in taken.refused:
                self._refusals.note(name, identity, reason)
            self._refusals.tell()
            self._lying.forget([*taken.moved, *(name for name, _, _ in taken.refused)])
            self._return(taken.returned)
        due = min(self._scan_due, next_due) - self._clock.monotonic()
        return Step(found_work=settled > 0 or taken is not None, look_again_in=max(0.0, due))

    @property
    def _rescan_seconds(self) -> float:
        polled = min(POLLING_SECONDS, self.inbox.rescan_seconds)
        return self.inbox.rescan_seconds if self.watch.mode is WatchMode.EVENTS else polled

    def _path(self, name: str) -> Path:
        return self.inbox.path / name

    # -- what is there

    def _scan(self, hints: Hints, now: float) -> None:
        self._lying.begin_scan()
        folders: set[str] = set()
        done: dict[str, int] = {}
        looks: dict[Look, list[Dropped]] = {look: [] for look in Look}
        trouble: OSError | None = None

        def cover(folder: str, status: os.stat_result) -> None:
            folders.add(folder)
            self.watch.cover(folder, status)

        try:
            for entry in scan(self.inbox.path, cover, subfolders=self.inbox.subfolders):
                ruling = admit(entry.name, entry.status, self.inbox)
                identity = Identity.of(entry.status)
                if ruling.admission is Admission.REJECTED:
                    self._refusals.note(entry.name, identity, ruling.reason)
                elif ruling.admission is Admission.LEFT_ALONE:
                    self._note_done_file(entry.name, identity, done)
                elif entry.name in self._lying or not self._refusals.covers(entry.name, identity):
                    look = self._lying.see(entry.name, identity, now, completed=entry.name in hints.completed)
                    if look is not Look.KNOWN:
                        looks[look].append(Dropped(self._path(entry.name), entry.name, identity))
        except OSError as error:
            trouble = error
        kill_point("scanned")
        self._record(looks[Look.NEW], looks[Look.CHANGED])
        if self.inbox.done_file:
            self._lying.mark_done(done, now)
        self._refusals.tell()
        if trouble is not None:
            raise trouble
        self._forget_gone()
        self.watch.uncover_all_but(folders)

    def _note_done_file(self, name: str, identity: Identity, done: dict[str, int]) -> None:
        if self.inbox.done_file and name.endswith(self.inbox.done_file):
            done[name.removesuffix(self.inbox.done_file)] = identity.mtime_ns

    def _record(self, new: list[Dropped], changed: list[Dropped]) -> None:
        """Write down what is new, and what changed after it had settled: that may be another file as well."""
        if changed:
            ledger_files.record_unsettled(self._ledger, [file.path for file in changed])
        if found := [*new, *changed]:
            # In the order of their last change, which is the order of arrival as far as anybody can tell.
            found.sort(key=lambda file: (file.identity.mtime_ns, file.name))
            ledger_files.record_seen(self._ledger, self.inbox.name, found, self._clock.utc())
            kill_point("seen")

    def _forget_gone(self) -> None:
        """Write down which files their owner has taken away."""
        gone = self._lying.gone()
        # Once, after the start: what waited when the sensor stopped and is not there any more.
        before = self._before.difference(map(self._path, self._lying.names())) if self._before else set[Path]()
        self._before = set[Path]()
        if gone or before:
            ledger_files.record_withdrawn(self._ledger, [*before, *map(self._path, gone)], self._clock.utc())
            self._lying.forget(gone)

    def _return(self, names: Sequence[str]) -> None:
        """Have files that could not be taken settle again."""
        if names:
            self._lying.reopen(names, self._clock.monotonic())
            self._scan_due = 0.0

    # -- what is complete

    def _settle(self, now: float) -> tuple[int, float]:
        """Settle what is complete; return how many files and when the next look is due."""
        complete: list[Dropped] = []
        next_due = float("inf")
        for name in list(self._lying.open):
            sighting = self._lying[name]
            if sighting.identity.size == 0 and self.inbox.empty is EmptyFiles.WAIT:
                continue  # waits for its content: many writers create a file long before they fill it
            earliest = settle.complete_at(sighting, self.inbox, Writer.NONE)
            if earliest is not None and now >= earliest:
                earliest = self._prove(name, now)
            if earliest is None:
                continue
            if now < earliest:
                next_due = min(next_due, earliest)
            elif sighting.identity.size == 0 and self.inbox.empty is EmptyFiles.REJECT:
                self._refusals.note(name, sighting.identity, EMPTY)
                self._lying.forget([name])
            else:
                complete.append(Dropped(self._path(name), name, sighting.identity))
        self._refusals.tell()
        if complete:
            ledger_files.record_settled(self._ledger, complete, self._clock.utc())
            kill_point("settled")
            self._lying.open.difference_update(file.name for file in complete)
        return len(complete), next_due

    def _prove(self, name: str, now: float) -> float | None:
        """Ask the kernel; return when the file counts as complete as it was seen, or None: not before a scan."""
        path = self._path(name)
        try:
            writer = writer_of(path)
            identity = identity_at(path)
        except OSError as error:
            # A symlink has taken its place, or the kernel has no descriptor left: whatever it is, not now.
            logger.debug("inbox %s: %s cannot be looked at: %s", self.inbox.name, name, error)
            return now + WRITER_SECONDS
        if identity is None:
            self._scan_due = 0.0
            return None
        if identity != self._lying[name].identity:
            self._lying.see_changed(name, identity, now)
            self._scan_due = 0.0 if self.inbox.done_file else self._scan_due
            return now + self.inbox.quiet_seconds
        return settle.complete_at(self._lying[name], self.inbox, writer) or now + WRITER_SECONDS
