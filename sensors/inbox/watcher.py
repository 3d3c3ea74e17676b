"""Hints that an inbox is worth a look: file events, and folders whose names changed; only a scan says what is there."""

import logging
import os
import sys
import threading
import time
from collections.abc import Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sensors.files import file_systems
from sensors.inbox.folder_events import FolderEvents, Listener

JUST_NOW_NS = 1_000_000_000
"""A file system's clock is coarse: if a folder changed less than this (1 s) before it was listed, a later change may
carry the same time."""

_NEVER = (0, 0, 0)


@dataclass
class FolderTimes:
    """State of the folders of one inbox when they were listed.

    Folders that have not changed since are not listed again.
    """

    inbox: Path
    _listed: dict[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])

    def note(self, folder: str, status: os.stat_result) -> None:
        """Record the state of a folder, by its path below the inbox, before it is listed."""
        # The system's clock, not an injected one: the kernel sets the times of folders by it.
        is_old = status.st_mtime_ns < time.time_ns() - JUST_NOW_NS
        self._listed[folder] = _look_of(status) if is_old else _NEVER

    def forget_all_but(self, folders: Set[str]) -> None:
        """Forget the folders that are not there any more."""
        for folder in self._listed.keys() - folders:
            del self._listed[folder]

    def have_changed(self) -> bool:
        """Return whether any folder has changed since it was listed, or may have."""
        try:
            return not self._listed or any(self._has_changed(*one) for one in self._listed.items())
        except OSError:
            return True  # the scan that follows reports the error

    def _has_changed(self, folder: str, look: tuple[int, int, int]) -> bool:
        # The inbox itself may be a symlink, nothing below it.
        return _look_of(os.stat(self.inbox / folder, follow_symlinks=not folder)) != look  # noqa: PTH116


def _look_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


logger = logging.getLogger(__name__)


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


class Watch:
    """Hints for one inbox: collected in the event thread, fetched in the inbox's own thread."""

    def __init__(
        self,
        inbox: Path,
        wake: threading.Event | None = None,
        *,
        polling: bool = False,
        subfolders: bool = True,
        touches: bool = True,
    ) -> None:
        """Each hint sets `wake`. With `polling`, no events are requested; a network mount is always polled.

        Without `subfolders`, a new folder gives no hint; without `touches`, a file whose time changed gives none.
        """
        self.wake = wake or threading.Event()
        self._inbox = inbox
        self._lock = threading.Lock()
        self._touched: set[str] = set()
        self._completed: dict[str, bool] = {}
        """Whether each was only renamed."""
        self._changed = False
        self._uncovered: set[str] = set()
        self._identities: dict[str, tuple[int, int]] = {}
        self._listed = FolderTimes(inbox)
        self._told: set[str] = set()
        self._events: FolderEvents | None = None if polling else _events(self, subfolders=subfolders, touches=touches)
        self.being_written: tuple[str, ...] = ()
        """The files with temporary names, from the last scan."""
        self.why_polling: str = "the inbox's configuration says so" if polling else ""

    @property
    def mode(self) -> WatchMode:
        """EVENTS while hints come from events, so that an occasional scan is enough; otherwise POLLING."""
        if self._events is None or self.why_polling:
            return WatchMode.POLLING
        return WatchMode.EVENTS if self._events.works else WatchMode.POLLING

    # -- called by the scanner

    def cover(self, folder: str, status: os.stat_result) -> None:
        """Watch a folder; cheap if it is watched already. Must be called before the folder is listed."""
        identity = (status.st_dev, status.st_ino)
        self._listed.note(folder, status)
        with self._lock:
            if folder in self._uncovered:  # a recreated folder may have the old one's inode
                self._uncovered.discard(folder)
                self._identities.pop(folder, None)
        if self._events is None or self._identities.get(folder) == identity:
            return
        if not folder and (kind := file_systems.kind_of(self._inbox)) and not file_systems.reports_events(kind):
            self._poll(f"{kind} does not report what other machines do there")
            self._events.close()
            self._events = None
            return
        try:
            path = str(self._inbox / folder)
            self._events.cover(folder, path)
            covered = os.stat(path, follow_symlinks=not folder)  # noqa: PTH116
        except OSError as error:
            self._poll(error.strerror or str(error))
            return
        if (covered.st_dev, covered.st_ino) != identity:
            self._events.uncover(folder)  # it was replaced while it was listed; the next scan covers the new one
            return
        self._identities[folder] = identity

    def uncover_all_but(self, folders: Set[str]) -> None:
        """Stop watching folders that a scan did not find; return to events if all folders are covered."""
        self._listed.forget_all_but(folders)
        for folder in self._identities.keys() - folders:
            del self._identities[folder]
            if self._events is not None:
                self._events.uncover(folder)
        if self.why_polling and self._events is not None and self._identities.keys() == folders:
            logger.info("%s: file events come in again", self._inbox)
            self.why_polling = ""

    def fetch(self) -> Hints:
        """Return what was noticed since the last call."""
        with self._lock:
            completed, touched, changed = self._completed, self._touched, self._changed
            self._completed, self._touched, self._changed = {}, set(), False
        renamed = {name for name, is_renamed in completed.items() if is_renamed}
        return Hints(completed.keys(), renamed, touched, changed)

    def has_news(self) -> bool:
        """Return whether names came or went since the last scan, or may have: one stat a folder.

        A file that was changed in place does not count: hints and occasional scans find it.
        """
        return self.mode is WatchMode.POLLING or self._listed.have_changed()

    def close(self) -> None:
        """Stop watching."""
        if self._events is not None:
            self._events.close()

    def _poll(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            logger.warning("%s: no file events (%s), looking every second instead", self._inbox, why)
        self.why_polling = why

    # -- called by the event thread

    def completed(self, name: str, *, renamed: bool = False) -> None:
        """Note that a file was closed after writing, or `renamed` to this name."""
        with self._lock:
            self._completed[name] = renamed and self._completed.get(name, True)
        self.wake.set()

    def touched(self, name: str) -> None:
        """Note that a file's time changed."""
        with self._lock:
            self._touched.add(name)
        self.wake.set()

    def changed(self) -> None:
        """Note that a folder came or went, or that something happened to the inbox itself."""
        with self._lock:
            self._changed = True
        self.wake.set()

    def uncovered(self, folder: str) -> None:
        """Note that a folder's events have ended: it was deleted, or its file system was unmounted."""
        with self._lock:
            self._uncovered.add(folder)
        self.changed()

    def overflowed(self) -> None:
        """Note that events were lost because the kernel's queue was full."""
        if "overflow" not in self._told:
            self._told.add("overflow")
            logger.warning("%s: the kernel's queue of file events was full; looking at everything", self._inbox)
        self.changed()


def _events(listener: Listener, *, subfolders: bool, touches: bool) -> FolderEvents:
    if sys.platform == "linux":
        from sensors.inbox.inotify import Inotify

        return Inotify(listener, subfolders, touches)
    from sensors.inbox.folder_events import SystemObserver

    return SystemObserver(listener)
