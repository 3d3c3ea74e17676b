"""Events of an inbox's folders on Linux, by watchdog's binding of inotify(7): one descriptor for the whole sensor.

watchdog's own observers keep following the path that they were given at the start. Here each scan says which folders
exist, so a folder that was deleted and recreated, or renamed into the inbox with its contents, is covered as soon as it
is seen. This module can be imported on Linux only.
"""

import os
from dataclasses import dataclass, field

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from sensors.inbox.folder_events import Listener

_MASK = (
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
"""Without IN_MODIFY: a file that is being written is of no interest until it is closed."""
_FOLDERS = InotifyConstants.IN_CREATE
"""Reports the creation of files as well, which doubles the number of events, so it is used only where subfolders
matter."""
_TOUCHES = InotifyConstants.IN_ATTRIB
"""For files that are touched without being opened, as some programs do."""


@dataclass
class Inotify:
    """The covered folders of one inbox."""

    listener: Listener
    subfolders: bool = False
    """Whether to report folders that are created in a covered one."""
    touches: bool = False
    """Whether to report files whose time changed and nothing else."""
    _covered: dict[str, WatchDescriptor] = field(default_factory=dict[str, WatchDescriptor])

    def cover(self, folder: str, path: str) -> None:
        """Start sending a folder's events to the listener; raises OSError when the kernel refuses."""
        self.uncover(folder)
        callback = _FolderEvents(self.listener, folder)
        links = InotifyConstants.IN_DONT_FOLLOW if folder else 0  # the inbox itself may be a link
        mask = Mask(_MASK | links | (_FOLDERS if self.subfolders else 0) | (_TOUCHES if self.touches else 0))
        found = InotifyFD.get_instance().add_callback(os.fsencode(path), mask, callback, _id(self))
        if found < 0:
            raise PermissionError(f"{path}: the kernel does not let us watch it")
        self._covered[folder] = found

    def uncover(self, folder: str) -> None:
        """Stop sending a folder's events."""
        if (descriptor := self._covered.pop(folder, None)) is not None:
            InotifyFD.get_instance().remove_callbacks([(descriptor, _id(self))])

    @property
    def works(self) -> bool:
        """Whether the thread that reads the events is alive."""
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
