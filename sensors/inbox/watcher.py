"""When the folders of an inbox last got or lost a name, so that one that did not is not listed again."""

import logging
import os
import sys
import threading
import time
from collections.abc import Set
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from sensors.files import file_systems as mounts
from sensors.inbox.folder_events import FolderEvents, Listener

JUST_NOW_NS = 1_000_000_000
"""A file system's clock is coarse: of a folder that changed so shortly before it was listed (1 s) nobody can tell
whether it changed again at the same time."""

_NEVER = (0, 0, 0)


@dataclass
class FolderTimes:
    """What the folders of one inbox looked like when they were listed."""

    inbox: Path
    _listed: dict[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])

    def note(self, folder: str, status: os.stat_result) -> None:
        """Take note of how a folder looks, by its path below the inbox, before it is listed."""
        # The clock is the system's and no other: the kernel has written by it.
        is_old = status.st_mtime_ns < time.time_ns() - JUST_NOW_NS
        self._listed[folder] = _look_of(status) if is_old else _NEVER

    def forget_all_but(self, folders: Set[str]) -> None:
        """Forget the folders that are not there any more."""
        for folder in self._listed.keys() - folders:
            del self._listed[folder]

    def have_changed(self) -> bool:
        """Tell whether any folder is not what it was when it was listed, or may not be."""
        try:
            return not self._listed or any(self._has_changed(*one) for one in self._listed.items())
        except OSError:
            return True  # whoever lists it finds out what is wrong

    def _has_changed(self, folder: str, look: tuple[int, int, int]) -> bool:
        # The inbox itself may be a symlink, nothing below it.
        return _look_of(os.stat(self.inbox / folder, follow_symlinks=not folder)) != look  # noqa: PTH116


def _look_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns


# Watching: hints that an inbox is worth a look; only a scan tells what is there.

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
    """Those among them to which nothing else happened than being renamed."""
    touched: Set[str] = frozenset()
    """Files that got another time, which proves nothing."""
    changed: bool = False
    """Whether something else happened that only a scan can tell."""

    def __bool__(self) -> bool:
        return bool(self.completed or self.touched or self.changed)


class Watch:
    """The hints about one inbox: collected by the thread of the events, fetched by the inbox's own."""

    def __init__(
        self,
        inbox: Path,
        wake: threading.Event | None = None,
        *,
        polling: bool = False,
        subfolders: bool = True,
        touches: bool = True,
    ) -> None:
        """Each hint sets `wake`. With `polling` no events are asked for; a network mount decides that by itself.

        Without `subfolders` it is no hint that a folder was made, without `touches` none that a file has another time.
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
        """The files with temporary names, as the last scan found them."""
        self.why_polling: str = "the inbox's configuration says so" if polling else ""

    @property
    def mode(self) -> WatchMode:
        """Whether hints come by events, so that a scan now and then is enough."""
        if self._events is None or self.why_polling:
            return WatchMode.POLLING
        return WatchMode.EVENTS if self._events.works else WatchMode.POLLING

    # -- called by whoever scans

    def cover(self, folder: str, status: os.stat_result) -> None:
        """See to it that a folder's events come in; cheap when they do already. To be called before it is listed."""
        identity = (status.st_dev, status.st_ino)
        self._listed.note(folder, status)
        with self._lock:
            if folder in self._uncovered:  # a folder that was made again may have the old one's inode
                self._uncovered.discard(folder)
                self._identities.pop(folder, None)
        if self._events is None or self._identities.get(folder) == identity:
            return
        if not folder and (kind := mounts.kind_of(self._inbox)) and not mounts.tells_events(kind):
            self._poll(f"{kind} does not tell us what other machines do there")
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
            self._events.uncover(folder)  # it was replaced while it was listed; the next scan covers what is there
            return
        self._identities[folder] = identity

    def uncover_all_but(self, folders: Set[str]) -> None:
        """Stop listening to folders that a scan did not find any more; back to events if all are covered."""
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
        """Tell whether names have come or gone since the last scan, or may have: one stat a folder.

        A file that was changed in place is no news: that is what hints are for, and a scan now and then.
        """
        return self.mode is WatchMode.POLLING or self._listed.have_changed()

    def close(self) -> None:
        """Stop listening."""
        if self._events is not None:
            self._events.close()

    def _poll(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            logger.warning("%s: no file events (%s), looking every second instead", self._inbox, why)
        self.why_polling = why

    # -- called by the thread of the events

    def completed(self, name: str, *, renamed: bool = False) -> None:
        """Take the hint that a file was closed after writing, or `renamed` to this name."""
        with self._lock:
            self._completed[name] = renamed and self._completed.get(name, True)
        self.wake.set()

    def touched(self, name: str) -> None:
        """Take the hint that a file got another time."""
        with self._lock:
            self._touched.add(name)
        self.wake.set()

    def changed(self) -> None:
        """Take the hint that a folder came or went, or that something happened to the inbox itself."""
        with self._lock:
            self._changed = True
        self.wake.set()

    def uncovered(self, folder: str) -> None:
        """Take the hint that a folder's events have ended: it was deleted, or its file system went."""
        with self._lock:
            self._uncovered.add(folder)
        self.changed()

    def overflowed(self) -> None:
        """Take the hint that hints were lost: the kernel's queue was full."""
        if "overflow" not in self._told:
            self._told.add("overflow")
            logger.warning("%s: the kernel's queue of file events was full; looking at everything", self._inbox)
        self.changed()


def _events(listener: Listener, *, subfolders: bool, touches: bool) -> FolderEvents:
    if sys.platform == "linux":
        from sensors.inbox.folder_events import Inotify

        return Inotify(listener, subfolders, touches)
    from sensors.inbox.folder_events import SystemObserver

    return SystemObserver(listener)
