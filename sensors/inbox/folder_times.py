"""When the folders of an inbox last got or lost a name, so that one that did not is not listed again."""

import os
import time
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

JUST_NOW_NS = 1_000_000_000
"""A file system's clock is coarse: of a folder that changed so shortly before it was listed (1 s) nobody can tell
whether it changed again at the same time."""

_NEVER = (0, 0, 0)


@dataclass
class FolderTimes:
    """What the folders of one inbox looked like when they were listed."""

    inbox: Path
    _listed: dict[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])

    def note(self, folder: str, status: os.stat_result) -> None:
        """Take note of how a folder looks, by its path below the inbox, before it is listed."""
        # The clock is the system's and no other: the kernel has written by it.
        is_old = status.st_mtime_ns < time.time_ns() - JUST_NOW_NS
        self._listed[folder] = _look_of(status) if is_old else _NEVER

    def forget_all_but(self, folders: Set[str]) -> None:
        """Forget the folders that are not there any more."""
        for folder in self._listed.keys() - folders:
            del self._listed[folder]

    def have_changed(self) -> bool:
        """Tell whether any folder is not what it was when it was listed, or may not be."""
        try:
            return not self._listed or any(self._has_changed(*one) for one in self._listed.items())
        except OSError:
            return True  # whoever lists it finds out what is wrong

    def _has_changed(self, folder: str, look: tuple[int, int, int]) -> bool:
        # The inbox itself may be a symlink, nothing below it.
        return _look_of(os.stat(self.inbox / folder, follow_symlinks=not folder)) != look  # noqa: PTH116


def _look_of(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_dev, status.st_ino, status.st_mtime_ns
