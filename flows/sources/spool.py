"""Temporary folders for the downloads of a run."""

import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_FORGOTTEN_SECONDS = 7 * 24 * 3600
"""A folder older than this was left by a run that was killed."""


@contextmanager
def spool_folder(root: Path, run_id: str) -> Generator[Path, None, None]:
    """Create a folder for a run below `root` and remove it after the block, also when the run fails."""
    folder = root / run_id
    folder.mkdir(parents=True, exist_ok=True)
    _remove_forgotten(root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_forgotten(root: Path) -> None:
    for folder in root.iterdir():
        try:
            is_forgotten = time.time() - folder.stat().st_mtime > _FORGOTTEN_SECONDS
        except FileNotFoundError:  # another run has just ended
            continue
        if is_forgotten:
            shutil.rmtree(folder, ignore_errors=True)


# Make new file names survive a power cut.


def sync_folder(folder: Path) -> None:
    """Sync a folder to the disk: fsync(2) of a file does not write the file's name. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
