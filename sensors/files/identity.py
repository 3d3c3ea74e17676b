"""What makes a dropped file that file and no other."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Identity:
    """Device, inode, size in bytes and time of the last change in nanoseconds; the path belongs to it too."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the identity that a stat tells."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def identity_at(path: Path | str) -> Identity | None:
    """Return the identity of what lies at `path`, a symlink itself included, or None if nothing does."""
    try:
        return Identity.of(os.lstat(path))
    except FileNotFoundError:
        return None
