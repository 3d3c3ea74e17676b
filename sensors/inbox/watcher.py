"""Hints that an inbox is worth a look: file events, and folders whose names changed; only a scan says what is there."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from sensors.arrivals.move import LocalSource
from sensors.config.inboxes import Inbox
from sensors.files import file_systems
from sensors.inbox.pending_files import PendingFiles
from sensors.inbox.rejections import Rejections
from sensors.inbox.scanner import Hints, LocalScanner, WatchMode
from sensors.runtime.clock import Clock

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, WatchDescriptor


# File system events of an inbox's folders: what receives them, and what sends them where there is no inotify.
#
# Elsewhere (macOS, Windows) they come from watchdog's observer for that system, and say only that something changed.


class Listener(Protocol):
    """Receives the events of an inbox, in another thread."""

    def completed(self, name: str, *, renamed: bool = False) -> None: ...
    def touched(self, name: str) -> None: ...
    def changed(self) -> None: ...
    def uncovered(self, folder: str) -> None: ...
    def overflowed(self) -> None: ...


class FolderEvents(Protocol):
    """Sends the events of folders to a listener: `Inotify` on Linux, `SystemObserver` elsewhere."""

    def cover(self, folder: str, path: str) -> None: ...
    def uncover(self, folder: str) -> None: ...
    @property
    def works(self) -> bool: ...
    def close(self) -> None: ...


@dataclass
class SystemObserver:
    """Events of one inbox and everything below it; they say only that something changed."""

    listener: Listener
    _observer: "BaseObserver | None" = field(default=None)

    def cover(self, folder: str, path: str) -> None:
        """Start watching the inbox itself, which covers its subfolders; raises OSError."""
        if folder:
            return
        self.close()
        observer = Observer()
        observer.schedule(_Handler(self.listener), str(Path(path)), recursive=True)
        observer.start()
        self._observer = observer

    def uncover(self, folder: str) -> None:
        """Do nothing: a folder that is gone has no events."""

    @property
    def works(self) -> bool:
        """Whether the observer is alive."""
        return self._observer is not None and self._observer.is_alive()

    def close(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2)
            self._observer = None


class _Handler(FileSystemEventHandler):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_any_event(self, event: FileSystemEvent) -> None:
        # FSEvents and similar services report writes, not closing: a hint to look, not proof that a file is complete.
        self._listener.changed()


# Events of an inbox's folders on Linux, by watchdog's binding of inotify(7): one descriptor for the whole sensor.
#
# watchdog's own observers keep following the path that they were given at the start. Here each scan says which
# folders exist, so a folder that was deleted and recreated, or renamed into the inbox with its contents, is covered
# as soon as it is seen. The binding, watchdog.observers.inotify_c, is undocumented and can be imported on Linux only.

# Of inotify(7). Without IN_MODIFY: a file that is being written is of no interest until it is closed.
_MASK = 0x8 | 0x80 | 0x400 | 0x800 | 0x1000000
"""IN_CLOSE_WRITE, IN_MOVED_TO, IN_DELETE_SELF, IN_MOVE_SELF and IN_ONLYDIR."""
_FOLDERS = 0x100
"""IN_CREATE: reports the creation of files as well, which doubles the number of events, so it is used only where
subfolders matter."""
_TOUCHES = 0x4
"""IN_ATTRIB: for files that are touched without being opened, as some programs do."""
_DONT_FOLLOW = 0x2000000


@dataclass
class Inotify:
    """The covered folders of one inbox."""

    listener: Listener
    subfolders: bool = False
    """Whether to report folders that are created in a covered one."""
    touches: bool = False
    """Whether to report files whose time changed and nothing else."""
    _covered: "dict[str, WatchDescriptor]" = field(default_factory=dict[str, "WatchDescriptor"])

    def cover(self, folder: str, path: str) -> None:
        """Start sending a folder's events to the listener; raises OSError when the kernel refuses."""
        from watchdog.observers.inotify_c import InotifyFD, Mask

        self.uncover(folder)
        callback = _FolderEvents(self.listener, folder)
        links = _DONT_FOLLOW if folder else 0  # the inbox itself may be a link
        mask = Mask(_MASK | links | (_FOLDERS if self.subfolders else 0) | (_TOUCHES if self.touches else 0))
        found = InotifyFD.get_instance().add_callback(os.fsencode(path), mask, callback, _id(self))
        if found < 0:
            raise PermissionError(f"{path}: the kernel does not let us watch it")
        self._covered[folder] = found

    def uncover(self, folder: str) -> None:
        """Stop sending a folder's events."""
        from watchdog.observers.inotify_c import InotifyFD

        if (descriptor := self._covered.pop(folder, None)) is not None:
            InotifyFD.get_instance().remove_callbacks([(descriptor, _id(self))])

    @property
    def works(self) -> bool:
        """Whether the thread that reads the events is alive."""
        from watchdog.observers.inotify_c import InotifyFD

        return InotifyFD.get_instance().is_alive()

    def close(self) -> None:
        """Stop sending the events of all folders."""
        for folder in list(self._covered):
            self.uncover(folder)


@dataclass(frozen=True)
class _FolderEvents:
    """Callbacks for the events of one folder, called in inotify's thread."""

    listener: Listener
    folder: str

    def on_event(self, event: "InotifyEvent") -> None:
        if event.is_attrib:
            if not event.is_directory:
                self.listener.touched(self._path(event))
        elif event.is_directory:
            self.listener.changed()
        elif event.is_close_write or event.is_moved_to:
            self.listener.completed(self._path(event), renamed=event.is_moved_to)

    def _path(self, event: "InotifyEvent") -> str:
        name = os.fsdecode(event.name)
        return f"{self.folder}/{name}" if self.folder else name

    def on_watch_deleted(self, wd: "WatchDescriptor") -> None:
        self.listener.uncovered(self.folder)

    def on_queue_overflow(self) -> None:
        self.listener.overflowed()


def _id(owner: object) -> "CallbackId":
    return cast("CallbackId", id(owner))


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


T = TypeVar("T")


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

    # -- called by the intake and its loop

    def attach(self, wake: threading.Event, _beat: Callable[[], None]) -> None:
        """Set `wake` at each hint from now on."""
        self.wake = wake

    @property
    def origin(self) -> LocalSource:
        """What moves the files into arrivals."""
        return LocalSource()

    def scanner(self, inbox: Inbox, rejections: Rejections, pending: PendingFiles, clock: Clock) -> LocalScanner:
        """Return the inbox's scanner."""
        return LocalScanner(inbox, self, rejections, pending, clock)

    def patient(self, step: Callable[[], T], _found_work: Callable[[], object]) -> Callable[[], T]:
        """Return the intake's step unchanged: a local folder is looked at as often after an error."""
        return step

    def stop(self) -> None:
        """Do nothing: no step of a local folder takes long."""

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
        try:
            from watchdog.observers.inotify_c import InotifyFD, Mask  # noqa: F401 # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            logger.warning("file events say only that something changed: this watchdog has no such binding (%s)", error)
        else:
            return Inotify(listener, subfolders, touches)
    return SystemObserver(listener)
