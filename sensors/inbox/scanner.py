"""Scanner of a local inbox: compare its files with those seen before, at the lowest cost.

A hint names a file, and only that file is checked. Everything is listed after a start, when a hint says only that
something happened, when names came or went without a hint, and from time to time in any case.
"""

import logging
import os
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from sensors.config.admission import Admission, admit
from sensors.config.inboxes import Inbox
from sensors.files import stability
from sensors.files.beneath import Identity, OpenFolders, Place
from sensors.files.stability import Writer, read_lease
from sensors.inbox.pending_files import Change, Entry, PendingFiles, look, scan
from sensors.inbox.rejections import Rejections
from sensors.runtime.clock import Clock
from sensors.runtime.loop import DutyCycle, beat

logger = logging.getLogger(__name__)

POLLING_SECONDS = 1.0
"""How often a folder without events is listed."""
WRITER_SECONDS = 0.5
"""How often a file that a process has open is checked again; closing it gives a hint, this is the fallback."""
SCAN_SHARE = 0.02
LONGEST_PAUSE_SECONDS = 30.0
"""A scan that is needed may take SCAN_SHARE of the time: a folder that always takes half a second to list is listed
every 25 s. However slow scans are, for example on a network folder that stalls, the pause is no longer than
LONGEST_PAUSE_SECONDS, unless the inbox is configured to be listed less often."""
SWEEP_SECONDS = 60.0
SWEEP_SHARE = 0.0003
LONGEST_SWEEP_SECONDS = 600.0
"""How often at most, and for which share of the time, everything is listed although nothing says that it is needed: no
hint came and no name came or went. This finds files that were changed in place without a hint. Ten inboxes of 10,000
files take 0.3 % of the time for it."""


@dataclass
class Found:
    """Result of a look at an inbox."""

    is_whole: bool = False
    """Whether everything was listed."""
    seen: set[str] = field(default_factory=set[str])
    """The names of all files that are ours, rejected ones included."""
    new: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    """Files that changed after they had settled; each may be a different file now."""
    rejected: list[str] = field(default_factory=list[str])
    """Files that have settled and that the inbox does not take."""
    gone: list[str] = field(default_factory=list[str])
    temporary: dict[str, float] = field(default_factory=dict[str, float])
    """Files with temporary names, and when each last changed, in seconds since 1970."""
    done: dict[str, int] = field(default_factory=dict[str, int])
    """When each file's done-file was written, in nanoseconds."""
    trouble: OSError | None = None
    """Why some files could not be checked."""


class Scanner(Protocol):
    """Finds the changes in an inbox: `LocalScanner` in a local folder, `RemoteScanner` in a listing."""

    scan_due: float
    again: set[str]

    def look(self, now: float) -> Found: ...
    def confirm(self, name: str, now: float) -> float | None: ...
    def rest(self) -> None: ...
    def confirm_rejected(self, name: str, now: float) -> float | None: ...


class WatchMode(StrEnum):
    """How changes of an inbox are noticed."""

    EVENTS = "events"
    POLLING = "polling"
    LISTING = "listing"  # of a remote inbox, by sensors/remote


@dataclass(frozen=True)
class Hints:
    """What was noticed since the last look."""

    completed: Set[str] = frozenset()
    """Files, by their path below the inbox, that were closed after writing or renamed to that name."""
    renamed: Set[str] = frozenset()
    """The files among them that were renamed, and to which nothing else happened."""
    touched: Set[str] = frozenset()
    """Files whose time changed, which proves nothing."""
    changed: bool = False
    """Whether something else happened, which only a scan can find."""

    def __bool__(self) -> bool:
        return bool(self.completed or self.touched or self.changed)


class HintSource(Protocol):
    """What a scanner needs of the watch on its folders."""

    @property
    def mode(self) -> WatchMode: ...
    def fetch(self) -> Hints: ...
    def has_news(self) -> bool: ...
    def cover(self, folder: str, status: os.stat_result) -> None: ...
    def uncover_all_but(self, folders: Set[str]) -> None: ...


class LocalScanner:
    """The files of one local inbox, as far as they have been checked."""

    def __init__(
        self, inbox: Inbox, watch: HintSource, rejections: Rejections, pending: PendingFiles, clock: Clock
    ) -> None:
        """Files go into `pending`, and those that the inbox does not take into `rejections`."""
        self._inbox = inbox
        self._watch = watch
        self._rejections = rejections
        self._pending = pending
        self._clock = clock
        self._folders = OpenFolders()
        self._scanning = DutyCycle(SCAN_SHARE, LONGEST_PAUSE_SECONDS)
        self._sweeping = DutyCycle(SWEEP_SHARE, LONGEST_SWEEP_SECONDS)
        self._sweep_due = 0.0
        self.scan_due = 0.0
        """When to check again whether names came or went; 0 forces a full scan."""
        self.again: set[str] = set()
        """Files to check with the next look although no hint came."""

    def look(self, now: float) -> Found:
        """Check what may have changed: everything if that is needed, else the files that the hints name."""
        self.rest()
        hints = self._watch.fetch()
        again, self.again = self.again, set()
        if hints.changed or self._needs_scan(now):
            found = self._scan(hints, now)
            lasted = self._clock.monotonic() - now
            ended = now + lasted
            self.scan_due = ended + max(self._rescan_seconds - lasted, self._scanning.pause_after(lasted))
            self._sweep_due = ended + max(SWEEP_SECONDS - lasted, self._sweeping.pause_after(lasted))
        elif names := hints.completed | hints.touched | again:
            found = self._look_at(names, hints, now)
        else:
            return Found()
        if found.trouble is not None:
            self.scan_due = 0.0  # the hints are spent, so the next look has to list everything
        return found

    def confirm(self, name: str, now: float) -> float | None:
        """Check for writers; return when the file, as observed, is complete, or None if it needs another look."""
        suffix = self._inbox.done_file
        try:
            place = self._folders.place(self._inbox.path, name)
            writer, identity = _observed(place)
            is_done = not suffix or place.beside(place.name + suffix).exists()
        except OSError as error:
            # A symlink has taken its place, or the kernel has no descriptor left: in any case, try again later.
            logger.debug("inbox %s: %s cannot be looked at: %s", self._inbox.name, name, error)
            return now + WRITER_SECONDS
        if identity is None or not is_done:
            self.again.add(name)
            return None
        if identity != self._pending.open[name].identity:
            self._pending.see(name, identity, now)
            if self._inbox.done_file:
                self.again.add(name)
            return None  # the next step judges it again
        return stability.complete_at(self._pending.open[name], self._inbox, writer) or now + WRITER_SECONDS

    def rest(self) -> None:
        """Close the folders that `confirm` keeps open from one file to the next."""
        self._folders.close()

    def confirm_rejected(self, name: str, now: float) -> float | None:
        """Check for writers; return when the file, as observed, may be rejected, or None if it needs another look."""
        try:
            writer, identity = _observed(self._folders.place(self._inbox.path, name))
        except OSError:
            return now + WRITER_SECONDS
        if identity != self._pending.open[name].identity:
            self.again.add(name)
            return None
        return stability.rejectable_at(self._pending.open[name], self._inbox, writer) or now + WRITER_SECONDS

    @property
    def _rescan_seconds(self) -> float:
        polled = min(POLLING_SECONDS, self._inbox.rescan_seconds)
        return self._inbox.rescan_seconds if self._watch.mode is WatchMode.EVENTS else polled

    def _needs_scan(self, now: float) -> bool:
        if now < self.scan_due:
            return False
        if self.scan_due == 0.0 or now >= self._sweep_due or self._watch.has_news():
            return True
        self.scan_due = now + self._rescan_seconds
        return False

    def _scan(self, hints: Hints, now: float) -> Found:
        found = Found(is_whole=True)
        self._rejections.begin_scan()
        folders: set[str] = set()

        def cover(folder: str, status: os.stat_result) -> None:
            beat()
            folders.add(folder)
            self._watch.cover(folder, status)

        try:
            self._see(scan(self._inbox.path, cover, subfolders=self._inbox.subfolders), hints, now, found)
        except OSError as error:
            found.trouble = error
        if self._inbox.done_file:
            self._pending.mark_done(list(self._pending.open), found.done, now)
        if found.trouble is None:
            found.gone = self._pending.gone(found.seen)
            self._watch.uncover_all_but(folders)
        return found

    def _look_at(self, names: Set[str], hints: Hints, now: float) -> Found:
        """Check these files and no others."""
        found = Found()
        files = names
        if suffix := self._inbox.done_file:
            # A file and its done-file are checked together, whichever of them the hint names.
            files = {name.removesuffix(suffix) for name in names}
            names = files | {name + suffix for name in files}
        try:
            self._see(look(self._inbox.path, names), hints, now, found)
        except OSError as error:
            found.trouble = error
            return found
        if suffix:
            self._pending.mark_done(files, found.done, now)
        found.gone = [name for name in files if name in self._pending and name not in found.seen]
        return found

    def _see(self, entries: Iterable[Entry], hints: Hints, now: float, found: Found) -> None:
        """Record what was found, entry by entry."""
        done_file = self._inbox.done_file
        for entry in entries:
            beat()
            name, identity = entry.name, Identity.of(entry.status)
            if done_file and name.endswith(done_file):
                found.done[name.removesuffix(done_file)] = identity.mtime_ns
            if self._rejections.covers(name, identity) and name not in self._pending:
                found.seen.add(name)
                continue
            ruling = admit(name, entry.status, self._inbox)
            if ruling.admission is Admission.LEFT_ALONE:
                if ruling.is_temporary:
                    found.temporary[name] = entry.status.st_ctime
                continue
            found.seen.add(name)
            completed, renamed = name in hints.completed, name in hints.renamed
            known = self._pending.see(name, identity, now, completed=completed, renamed=renamed, unwanted=ruling.reason)
            if known is not Change.KNOWN:
                (found.new if known is Change.NEW else found.changed).append(name)


def _observed(place: Place) -> tuple[Writer, Identity | None]:
    """Return whether a file is open for writing, and its identity; None if no file has the name."""
    try:
        with read_lease(place.name, dir_fd=place.folder) as lease:
            return lease.writer, Identity.of(lease.status)
    except FileNotFoundError:
        return Writer.UNKNOWN, None
