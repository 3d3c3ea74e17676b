"""The identity of a file: whether a path still has the same, unchanged file."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Identity:
    """Device, inode, size in bytes and modification time in nanoseconds of the file at one path."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity of the file that a stat describes."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def identity_at(path: Path | str) -> Identity | None:
    """Return the identity of the file at `path`, or None if there is none; a symlink is not followed."""
    try:
        return Identity.of(os.lstat(path))
    except FileNotFoundError:
        return None
