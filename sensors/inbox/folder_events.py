"""File system events of an inbox's folders: what receives them, and what sends them where there is no inotify.

Elsewhere (macOS, Windows) they come from watchdog's observer for that system, and say only that something changed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver


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
