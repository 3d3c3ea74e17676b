"""Watching: watchdog's events are hints that a folder is worth a look; only a scan tells what is there."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from watchdog.events import FileClosedEvent, FileMovedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

if TYPE_CHECKING:
    from watchdog.observers.api import BaseObserver

logger = logging.getLogger(__name__)

_HINTS: list[type[FileSystemEvent]] = [FileClosedEvent, FileMovedEvent]
"""Writes are no hints: a file that is being written has nothing to say until it is closed."""


class WatchMode(StrEnum):
    """How changes of a folder are noticed."""

    EVENTS = "events"
    POLLING = "polling"


@dataclass(frozen=True)
class Entry:
    """One directory entry and the stat of itself, a symlink not followed."""

    path: Path
    status: os.stat_result


class Watch(FileSystemEventHandler):
    """Hints about one folder, collected by watchdog's thread, fetched by the sensor's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._wake = threading.Event()
        self._completed: set[str] = set()
        self._lock = threading.Lock()
        self._observer: BaseObserver | None = None
        self.mode = WatchMode.POLLING

    def start(self, wake: threading.Event) -> None:
        """Begin to listen; each hint sets `wake`. When the kernel refuses, say so and leave it to polling."""
        self._wake = wake
        observer = _observer()
        try:
            observer.schedule(self, str(self._folder), event_filter=_HINTS)
            observer.start()
        except OSError as error:
            logger.warning("%s: no file events (%s), looking by polling instead", self._folder, error)
            return
        self._observer = observer
        self.mode = WatchMode.EVENTS

    def stop(self) -> None:
        """Stop listening."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(timeout=2)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Take a hint: the file was closed after writing, or renamed to this name."""
        path = event.dest_path if isinstance(event, FileMovedEvent) else event.src_path
        if path:
            with self._lock:
                self._completed.add(os.fsdecode(path))
            self._wake.set()

    def fetch_completed(self) -> set[str]:
        """Return the paths of which it was noticed since the last call that they were closed or renamed in."""
        with self._lock:
            completed, self._completed = self._completed, set()
        return completed


def _observer() -> "BaseObserver":
    if sys.platform == "linux":
        from watchdog.observers.inotify import InotifyObserver

        # With full events a rename from an unwatched folder is told from a file that was just created.
        return InotifyObserver(generate_full_events=True)
    return Observer()


def scan(folder: Path) -> Iterator[Entry]:
    """Yield the entries of a folder, one stat each; one that vanishes meanwhile is left out. Raises OSError."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                yield Entry(Path(entry.path), entry.stat(follow_symlinks=False))
            except FileNotFoundError:
                continue
