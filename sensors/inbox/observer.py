"""Events of folders where there is no inotify (macOS, Windows), by watchdog's observer of that system."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from sensors.inbox.folder_events_part import Listener

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver


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
