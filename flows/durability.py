"""Make new file names survive a power cut."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Sync a folder to the disk: fsync(2) of a file does not write the file's name. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
