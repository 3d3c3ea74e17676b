"""Intake of one inbox: find its files, wait until each has settled, and stage the settled ones as arrivals."""

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sensors.arrivals.blocked import BlockedFiles
from sensors.arrivals.move import Source
from sensors.arrivals.staging import Stager
from sensors.config.inboxes import EmptyFiles, Inbox, InboxesError
from sensors.files import stability
from sensors.files.permissions import make_shared_folder
from sensors.files.stability import Observation, Writer
from sensors.inbox.pending_files import PendingFiles
from sensors.inbox.rejections import Rejections, UnfinishedFiles
from sensors.inbox.scanner import Found, Scanner, WatchMode
from sensors.ledger import Ledger, LedgerError, files
from sensors.ledger import files as ledger_files
from sensors.ledger.files import Before, Dropped
from sensors.runtime.clock import Clock
from sensors.runtime.crash_points import kill_point

logger = logging.getLogger(__name__)

EMPTY = "the file is empty"


class InboxWatch(Protocol):
    """The watch on the files of an inbox: `Watch` on a local folder, `RemoteWatch` on a store."""

    being_written: tuple[str, ...]

    @property
    def mode(self) -> WatchMode: ...
    @property
    def why_polling(self) -> str: ...
    @property
    def origin(self) -> Source: ...
    def attach(self, wake: threading.Event, beat: Callable[[], None], /) -> None:
        """Set what wakes the inbox's loop, and what a long copy calls from time to time."""
        ...

    def patient(
        self, step: "Callable[[], IntakeStep]", found_work: Callable[[], object], /
    ) -> "Callable[[], IntakeStep]": ...
    def stop(self) -> None:
        """Have a step in progress end soon."""
        ...

    def close(self) -> None: ...
    def scanner(self, inbox: Inbox, rejections: Rejections, pending: PendingFiles, clock: Clock) -> Scanner: ...


@dataclass(frozen=True)
class IntakeStep:
    """Result of one step of the intake."""

    found_work: bool
    look_again_in: float
    """Seconds until there is something to check even if no hint comes."""


class Intake:
    """Intake of one inbox: observations are kept in memory, results in the ledger."""

    def __init__(
        self,
        inbox: Inbox,
        watch: InboxWatch,
        ledger: Ledger,
        stager: Stager,
        rejections: Rejections,
        clock: Clock,
    ) -> None:
        self.inbox = inbox
        self.watch = watch
        self._ledger = ledger
        self._stager = stager
        self._rejections = rejections
        self._clock = clock
        self._at = inbox.at("")
        self._pending = PendingFiles()
        self._scanner = watch.scanner(inbox, rejections, self._pending, clock)
        self._unfinished = UnfinishedFiles(inbox, ledger, clock, watch)
        self._blocked = BlockedFiles(lambda name: stager.origin.permissions_of(self._at + name))
        self._before = Before(set(), [])
        """The files that waited according to the ledger at the start, until a full scan shows which are still there."""
        self._has_begun = False
        self._is_interrupted = True
        """Whether an arrival may be half staged: after a start, or after an error."""
        self._resumed = clock.resumed()

    def step(self) -> IntakeStep:
        """Check what changed, settle complete files, and stage the settled ones.

        Raises OSError when the file system fails, sqlite3.Error or LedgerError when the ledger does; a later step
        recovers.
        """
        try:
            return self._step()
        except (sqlite3.Error, LedgerError):
            self._has_begun = False  # memory and ledger may differ: start as after a crash
            raise

    def _begin(self) -> None:
        """Forget everything and start from the ledger."""
        self._pending.clear()
        self._before = files.waiting_before(self._ledger, self.inbox.name, self._at)
        # Settled files have to settle again: nothing has watched them since.
        files.record_all_unsettled(self._ledger, self.inbox.name)
        self._stager.origin.blocked.update(ledger_files.names_blocked(self._ledger, self.inbox.name))
        self._scanner.scan_due = 0.0
        self._is_interrupted = True
        self._has_begun = True

    def _step(self) -> IntakeStep:
        if (resumed := self._clock.resumed()) != self._resumed:
            # Nothing watched the files while this process was suspended, perhaps together with their writers.
            self._resumed, self._has_begun = resumed, False
        if not self._has_begun:
            self._begin()
        if self._is_interrupted:
            self._return(self._stager.recover(self.inbox))
            self._is_interrupted = False
        now = self._clock.monotonic()
        found = self._scanner.look(now)
        kill_point("scanned")
        complete = self._complete(now, found)
        self._record(found, complete)
        self._rejections.withdraw(found.new)
        if found.is_whole and found.trouble is None:
            self._rejections.end_scan()
            self._unfinished.note(found.temporary)
        self._rejections.write()
        taken = self._take(now)
        if found.trouble is not None:
            raise found.trouble
        return IntakeStep(bool(complete) or taken, self._pause(has_taken=taken))

    def _take(self, now: float) -> bool:
        """Stage the settled files as the next arrival; return whether there was anything to do."""
        if due := [name for name in self._blocked.take_due(now) if self._pending.has_settled(name)]:
            ledger_files.record_due(self._ledger, (self._at + name for name in due), self._clock.utc())
        self._is_interrupted = True
        taken = self._stager.step(self.inbox)
        self._is_interrupted = False
        if taken is None:
            return False
        for name, identity, reason in taken.refused:
            self._rejections.note(name, identity, reason)
        self._rejections.write()
        self._pending.forget([*taken.moved, *(name for name, _, _ in taken.refused)])
        self._blocked.forget([*taken.moved, *taken.returned])
        self._blocked.note(taken.blocked, self._clock.monotonic())
        self._return(taken.returned)
        return bool(taken.moved or taken.returned or taken.refused)

    def _pause(self, *, has_taken: bool) -> float:
        if has_taken or self._scanner.again:
            return 0.0  # more files may have settled than one arrival takes
        return max(
            0.0, min(self._scanner.scan_due, self._pending.next_due, self._blocked.next_due) - self._clock.monotonic()
        )

    def _return(self, names: Sequence[str]) -> None:
        """Make files that could not be taken settle again."""
        self._pending.reopen(names)
        self._scanner.again.update(names)

    def _record(self, found: Found, complete: list[str]) -> None:
        """Record, in one transaction, what a look found and which files are complete.

        Nothing is done with a file before that, so after a crash up to this point every file is still in the inbox.
        """
        gone = [self._at + name for name in found.gone if name not in self._pending.unrecorded]
        if found.is_whole and found.trouble is None and (self._before.names or self._before.elsewhere):
            # Once after a start: the files that waited when the sensor stopped and are not there any more.
            gone += [*self._before.elsewhere, *(self._at + name for name in self._before.names - found.seen)]
            self._before = Before(set(), [])
        if found.new or found.changed or gone or complete:
            self._write(found, gone, complete)
        self._pending.settle(complete)
        self._pending.forget([*found.gone, *found.rejected])
        self._blocked.forget([*found.gone, *found.rejected])
        if found.new or found.changed:
            kill_point("seen")
        if complete:
            kill_point("settled")

    def _write(self, found: Found, gone: Sequence[str], complete: Sequence[str]) -> None:
        now, sightings = self._clock.utc(), self._pending.open
        # In order of their last change, the best known approximation of their order of arrival.
        seen = sorted(found.new + found.changed, key=lambda name: (sightings[name].identity.mtime_ns, name))
        with self._ledger.transaction():
            files.record_withdrawn(self._ledger, gone, now)
            files.record_unsettled(self._ledger, (self._at + name for name in found.changed))
            files.record_seen(self._ledger, self.inbox.name, self._dropped(seen), now)
            files.record_settled(self._ledger, self._dropped(complete), now)

    def _dropped(self, names: Iterable[str]) -> Iterator[Dropped]:
        """Yield open files one by one: a second list of 100,000 files is never built."""
        return (Dropped(self._at + name, name, self._pending.open[name].identity) for name in names)

    # -- complete files

    def _complete(self, now: float, found: Found) -> list[str]:
        """Return the complete files among those that are due to be judged."""
        complete: list[str] = []
        for name in self._pending.take_due(now):
            sighting = self._pending.open[name]
            if name in self._pending.unwanted:
                self._reject(name, sighting, now, found)
                continue
            if sighting.identity.size == 0 and self.inbox.empty is EmptyFiles.WAIT:
                continue  # waits for its content: many writers create a file long before they fill it
            earliest = stability.complete_at(sighting, self.inbox, Writer.NONE)
            if earliest is not None and now >= earliest:
                earliest = self._scanner.confirm(name, now)
            if earliest is None:
                continue
            if now < earliest:
                self._pending.judge_at(name, earliest)
            elif sighting.identity.size == 0 and self.inbox.empty is EmptyFiles.REJECT:
                self._rejections.note(name, sighting.identity, EMPTY)
                found.rejected.append(name)
            else:
                complete.append(name)
        self._scanner.rest()
        return complete

    def _reject(self, name: str, sighting: Observation, now: float, found: Found) -> None:
        """Reject a file that the inbox does not take, unless it may still be written or renamed."""
        earliest = stability.rejectable_at(sighting, self.inbox, Writer.NONE)
        if earliest is not None and now >= earliest:
            earliest = self._scanner.confirm_rejected(name, now)
        if earliest is None:
            return
        if now < earliest:
            self._pending.judge_at(name, earliest)
            return
        self._rejections.note(name, sighting.identity, self._pending.unwanted[name])
        found.rejected.append(name)


# Create the folders of local inboxes, and check that they can be used.


def make_folders(file: Path, inboxes: Iterable[Inbox], *, for_now: bool = False) -> None:
    """Create the local folders that do not exist; raises InboxesError with a line for each that cannot be used.

    `file` is the file in which the inboxes are configured. With `for_now`, only a path that cannot be a folder is a
    mistake: other errors, such as a read-only mount, may be temporary.
    """
    mistakes = [
        f"{file}: inboxes.{inbox.name}.path: expected a folder that can be read and written, {inbox.path} {problem};"
        " set another path or mend this one"
        for inbox in inboxes
        if inbox.url is None and (problem := _problem(inbox.path, for_now=for_now))
    ]
    if mistakes:
        raise InboxesError("\n".join(mistakes))


def _problem(path: Path, *, for_now: bool) -> str | None:
    try:
        make_shared_folder(path)
    except FileExistsError:
        return "is a file"
    except OSError as error:
        is_mistake = isinstance(error, NotADirectoryError) or not for_now
        return f"cannot be made: {error.strerror}" if is_mistake else None
    return None if for_now or os.access(path, os.R_OK | os.W_OK | os.X_OK) else "does not let us in"
