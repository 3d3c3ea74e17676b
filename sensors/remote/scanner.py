"""Scanner of a remote inbox: lists the store from time to time, and more rarely while the store fails.

Files are admitted by the rules for local files, and by further rules for names that no local folder allows.
"""

import threading
from collections.abc import Callable, Set
from dataclasses import dataclass, field, replace

from sensors.config.admission import LONGEST_NAME, Admission, AdmissionResult, admit
from sensors.config.inboxes import Inbox
from sensors.files import stability
from sensors.files.beneath import Identity
from sensors.files.stability import Writer
from sensors.inbox.intake import IntakeStep
from sensors.inbox.pending_files import Change, PendingFiles
from sensors.inbox.rejections import Rejections
from sensors.inbox.scanner import Found, Scanner, WatchMode
from sensors.remote.source import RemoteSource
from sensors.remote.store import PartlyError, RemoteFile, StoreError
from sensors.runtime.clock import Clock
from sensors.runtime.loop import DutyCycle

_NO_NAMES = frozenset({"", ".", ".."})


def rule(file: RemoteFile, inbox: Inbox) -> AdmissionResult:
    """Decide on a file by its path below the inbox, its kind and its size."""
    ruling = admit(file.name, file.status, inbox)
    if file.is_claimed:
        return AdmissionResult(Admission.LEFT_ALONE, "another sensor is taking it")
    if ruling.admission is Admission.ADMITTED and (reason := _no_file_of_ours(file.name)):
        return AdmissionResult(Admission.REJECTED, reason)
    return ruling


def _no_file_of_ours(name: str) -> str:
    folders = name.split("/")[:-1]
    if not _NO_NAMES.isdisjoint(folders):
        return "the path has empty parts, `.` or `..`, which no folder can have; rename the file"
    if any(len(folder.encode()) > LONGEST_NAME for folder in folders):
        return f"a folder's name has more than {LONGEST_NAME} bytes; rename the file"
    if "?versionId=" in name:
        return "the name has ?versionId= in it, which names a version of another file; rename the file"
    return ""


LONGEST_BACKOFF_SECONDS = 60.0


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, 2, 4 and so on, a minute at most.

    >>> [pause_after(failures) for failures in (1, 2, 3, 10)]
    [1.0, 2.0, 4.0, 60.0]
    """
    return min(LONGEST_BACKOFF_SECONDS, 2.0 ** min(failures - 1, 10))


@dataclass
class Backoff:
    """Runs the steps of a remote inbox's intake, with longer pauses the more often the store fails in a row."""

    step: Callable[[], IntakeStep]
    origin: RemoteSource
    found_work: Callable[[], object]
    """Called when there may be arrivals although the step failed."""
    _failures: int = field(default=0, init=False)

    def __call__(self) -> IntakeStep:
        """Run one step. Raises StoreError with the pause until the next one."""
        try:
            done = self.step()
        except PartlyError as error:
            error.pause_seconds = self.origin.inbox.rescan_seconds  # the other folders are listed as usual
            self.found_work()
            raise
        except StoreError as error:
            self._failures += 1
            error.pause_seconds = pause_after(self._failures)
            self.found_work()
            raise
        self._failures = 0
        return done


AGAIN_SECONDS = 1.0
"""Seconds after which a file that could not be taken is listed again."""
LISTING_SHARE = 0.2
LONGEST_LISTING_PAUSE_SECONDS = 60.0
"""Listings may take LISTING_SHARE of the time, as each costs the store something; but the pause is no longer than
LONGEST_LISTING_PAUSE_SECONDS, unless the inbox is configured to be listed less often."""


class RemoteScanner:
    """The files of one remote inbox, as of the last listing; nothing else is known of them.

    An object is complete as soon as it is listed, because objects appear whole or not at all. Of a file on an SFTP
    server only size and time are known; it is complete when a listing shows both unchanged for
    `unproven_quiet_seconds`.
    """

    def __init__(
        self, inbox: Inbox, origin: RemoteSource, rejections: Rejections, pending: PendingFiles, clock: Clock
    ) -> None:
        """Files go into `pending`, and those that the inbox does not take into `rejections`."""
        self._inbox = inbox
        self._origin = origin
        self._store = origin.store
        self._rejections = rejections
        self._pending = pending
        self._clock = clock
        self._listing = DutyCycle(LISTING_SHARE, LONGEST_LISTING_PAUSE_SECONDS)
        self._listed_at = float("-inf")
        self._listed: Set[str] = frozenset()
        self.scan_due = 0.0
        self.again: set[str] = set()

    def look(self, now: float) -> Found:
        """List everything if it is time to."""
        if self.again:
            self.again.clear()
            self.scan_due = min(self.scan_due, now + AGAIN_SECONDS)
        if now < self.scan_due:
            return Found()
        found = Found(is_whole=True)
        self._rejections.begin_scan()
        try:
            self._list(now, found)
        except OSError as error:
            found.trouble = error
        if self._inbox.done_file:
            self._pending.mark_done(list(self._pending.open), found.done, now)
        self._listed_at, self._listed = now, found.seen
        if found.trouble is not None:
            self.scan_due = 0.0  # the caller, to which the error is raised, decides how long to wait
            return found
        found.gone = self._pending.gone(found.seen)
        self._origin.forget_all_but(found.seen)
        ended = self._clock.monotonic()
        self.scan_due = ended + max(self._inbox.rescan_seconds, self._listing.pause_after(ended - now))
        return found

    def confirm(self, name: str, now: float) -> float | None:
        """Return when the file, as listed, is complete, or None if another listing is needed first."""
        writer = Writer.NONE if self._store.appears_whole else Writer.UNKNOWN
        return self._confirmed(name, stability.complete_at(self._pending.open[name], self._inbox, writer), now)

    def confirm_rejected(self, name: str, now: float) -> float | None:
        """Return when the file, as listed, may be rejected, or None if another listing is needed first."""
        return self._confirmed(name, stability.rejectable_at(self._pending.open[name], self._inbox, Writer.NONE), now)

    def _confirmed(self, name: str, earliest: float | None, now: float) -> float | None:
        if earliest is None or (earliest <= self._listed_at and name in self._listed):
            return earliest
        return max(earliest, self.scan_due, now + AGAIN_SECONDS)  # not listed since

    def rest(self) -> None:
        """Do nothing: nothing was opened."""

    def _list(self, now: float, found: Found) -> None:
        done_file = self._inbox.done_file
        for file in self._store.listing(subfolders=self._inbox.subfolders):
            self._origin.beat()
            if done_file and file.name.endswith(done_file):
                found.done[file.name.removesuffix(done_file)] = file.identity.mtime_ns
            if file.is_claimed and file.name in self._origin.blocked:
                file = replace(file, is_claimed=False)  # noqa: PLW2901 - it is our own claim that could not be removed
            ruling = rule(file, self._inbox)
            if ruling.admission is not Admission.LEFT_ALONE:
                found.seen.add(file.name)
                self._see(file.name, file.identity, ruling.reason, now, found)
            elif ruling.is_temporary:
                found.temporary[file.name] = file.status.st_ctime

    def _see(self, name: str, identity: Identity, unwanted: str, now: float, found: Found) -> None:
        if self._rejections.covers(name, identity) and name not in self._pending:
            return
        whole = self._store.appears_whole
        known = self._pending.see(name, identity, now, completed=whole, renamed=whole, unwanted=unwanted)
        if known is not Change.KNOWN:
            (found.new if known is Change.NEW else found.changed).append(name)


@dataclass
class RemoteWatch:
    """Takes the place of a watch: a remote inbox sends no events, it is listed."""

    inbox: Inbox
    origin: RemoteSource
    being_written: tuple[str, ...] = field(default=(), init=False)
    """The files with temporary names, from the last listing."""
    mode: WatchMode = field(default=WatchMode.LISTING, init=False)

    @property
    def why_polling(self) -> str:
        """How often the inbox is listed, as text."""
        return f"every {self.inbox.rescan_seconds:g} s"

    def scanner(self, inbox: Inbox, rejections: Rejections, pending: PendingFiles, clock: Clock) -> Scanner:
        """Return the inbox's scanner."""
        return RemoteScanner(inbox, self.origin, rejections, pending, clock)

    def patient(self, step: Callable[[], IntakeStep], found_work: Callable[[], object]) -> Callable[[], IntakeStep]:
        """Wrap the steps of the inbox's intake, with longer pauses while the store fails."""
        return Backoff(step, self.origin, found_work)

    def attach(self, _wake: threading.Event, beat: Callable[[], None]) -> None:
        """Have copies call `beat`; no event wakes the loop."""
        self.origin.beat = beat

    def stop(self) -> None:
        """Have copies in progress stop soon, and close the connection."""
        self.origin.stop()

    def close(self) -> None:
        """Stop once more: a step may have connected again meanwhile."""
        self.origin.stop()
