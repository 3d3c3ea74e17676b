"""Tells Prefect of each file that appears in a folder: `python watcher.py FOLDER`."""

import sys
import time
from pathlib import Path

from prefect.events import emit_event
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class Dropped(FileSystemEventHandler):
    """Emits an event per file; a file that is renamed into the folder is created, as watchdog sees it."""

    def on_created(self, event: FileSystemEvent) -> None:
        """Emit the event of one file."""
        path = str(event.src_path)
        resource = {"prefect.resource.id": f"file.{Path(path).name}"}
        emit_event(event="file.dropped", resource=resource, payload={"path": path})


if __name__ == "__main__":
    observer = Observer()
    observer.schedule(Dropped(), sys.argv[1])
    observer.start()
    print("watching", flush=True)
    while observer.is_alive():
        time.sleep(60)
