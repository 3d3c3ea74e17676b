"""Events of folders: who tells of them, and who is told."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver


class Listener(Protocol):
    """Who is told, in another thread, what happens in an inbox."""

    def completed(self, name: str, *, renamed: bool = False) -> None: ...
    def touched(self, name: str) -> None: ...
    def changed(self) -> None: ...
    def uncovered(self, folder: str) -> None: ...
    def overflowed(self) -> None: ...


class FolderEvents(Protocol):
    """Who tells: sensors/inbox/folder_events.py on Linux, sensors/inbox/folder_events.py elsewhere."""

    def cover(self, folder: str, path: str) -> None: ...
    def uncover(self, folder: str) -> None: ...
    @property
    def works(self) -> bool: ...
    def close(self) -> None: ...


# Events of folders on Linux, by watchdog's binding of inotify(7): one descriptor for the whole sensor.
#
# watchdog's own observers keep following the path that they were given once; here the scan says which folders there
# are, so that one that was deleted and made again, or renamed in with all that is in it, is covered as soon as it is
# seen.

_MASK = (
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
"""Writes are no hints: a file that is being written has nothing to say until it is closed."""
_FOLDERS = InotifyConstants.IN_CREATE
"""Files are told of when they are created as well then: twice as many events, so only where folders matter."""
_TOUCHES = InotifyConstants.IN_ATTRIB
"""A file that is touched without being opened, as some programs do."""


@dataclass
class Inotify:
    """The covered folders of one inbox."""

    listener: Listener
    subfolders: bool = False
    """Whether folders that are made in a covered one are told of."""
    touches: bool = False
    """Whether files are told of that got another time and nothing else."""
    _covered: dict[str, WatchDescriptor] = field(default_factory=dict[str, WatchDescriptor])

    def cover(self, folder: str, path: str) -> None:
        """Begin to tell the listener of a folder's events; raises OSError when the kernel refuses."""
        self.uncover(folder)
        callback = _FolderEvents(self.listener, folder)
        links = InotifyConstants.IN_DONT_FOLLOW if folder else 0  # the inbox itself may be a link
        mask = Mask(_MASK | links | (_FOLDERS if self.subfolders else 0) | (_TOUCHES if self.touches else 0))
        found = InotifyFD.get_instance().add_callback(os.fsencode(path), mask, callback, _id(self))
        if found < 0:
            raise PermissionError(f"{path}: the kernel does not let us watch it")
        self._covered[folder] = found

    def uncover(self, folder: str) -> None:
        """Stop telling of a folder's events."""
        if (descriptor := self._covered.pop(folder, None)) is not None:
            InotifyFD.get_instance().remove_callbacks([(descriptor, _id(self))])

    @property
    def works(self) -> bool:
        """Whether the thread that reads the events is alive."""
        return InotifyFD.get_instance().is_alive()

    def close(self) -> None:
        """Stop telling of all folders."""
        for folder in list(self._covered):
            self.uncover(folder)


@dataclass(frozen=True)
class _FolderEvents:
    """What inotify calls, in its own thread, about one folder."""

    listener: Listener
    folder: str

    def on_event(self, event: InotifyEvent) -> None:
        if event.is_attrib:
            if not event.is_directory:
                self.listener.touched(self._path(event))
        elif event.is_directory:
            self.listener.changed()
        elif event.is_close_write or event.is_moved_to:
            self.listener.completed(self._path(event), renamed=event.is_moved_to)

    def _path(self, event: InotifyEvent) -> str:
        name = os.fsdecode(event.name)
        return f"{self.folder}/{name}" if self.folder else name

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        self.listener.uncovered(self.folder)

    def on_queue_overflow(self) -> None:
        self.listener.overflowed()


def _id(owner: object) -> CallbackId:
    return CallbackId(id(owner))


# Events of folders where there is no inotify (macOS, Windows), by watchdog's observer of that system.


@dataclass
class SystemObserver:
    """The events of one inbox and all below it; they say only that something changed."""

    listener: Listener
    _observer: "BaseObserver | None" = field(default=None)

    def cover(self, folder: str, path: str) -> None:
        """Begin to listen to the inbox itself, which covers its subfolders; raises OSError."""
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
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2)
            self._observer = None


class _Handler(FileSystemEventHandler):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_any_event(self, event: FileSystemEvent) -> None:
        # FSEvents and the like tell of writes, not of closing: a hint to look, no proof of anything.
        self._listener.changed()
