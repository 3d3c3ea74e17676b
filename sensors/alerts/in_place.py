"""Notice files and folders that are deleted, replaced or truncated while in use, and restore them where that is safe.

A file that is deleted while it is open lives on without a name, and is lost when the sensor ends, with everything that
the sensor has written into it since.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from automations.sqlite_file import identity_of
from sensors.alerts.issues import Issue
from sensors.ledger import Ledger, LedgerError
from sensors.ledger.database import REBUILD

logger = logging.getLogger(__name__)

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100
"""https://sqlite.org/fileformat.html: page size at byte 16, number of pages at byte 28."""
_RESTART = "stop `just up` and run it again"


@dataclass
class LedgerGuard:
    """Watches the ledger file, and restores it from the open file if only its name was deleted."""

    path: Path
    _ledger: Ledger = field(init=False)
    _file: int = field(init=False)
    """Stays open as long as this process lives: closing a file drops the locks that SQLite has on it."""
    _doubt: str = field(default="", init=False)
    """The damage that the last check saw; it may have been a checkpoint in progress."""
    _folder: tuple[int, int] | None = field(default=None, init=False)
    _kept: Path | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._ledger = Ledger(self.path, make=False)
        self._folder = identity_of(self.path.parent)
        self._open_it()

    def _open_it(self) -> None:
        self._ledger.hold_open()
        self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def look(self) -> Iterator[Issue]:
        """Yield the current problems of the file, and one that was healed just now."""
        if damage := self._damage():
            yield self._issue(damage, REBUILD)
        elif not self._ledger.is_in_place:
            yield self._heal()

    def _damage(self) -> str:
        """Return how the open file was damaged in place, if two checks in a row saw damage; else an empty string."""
        before, self._doubt = self._doubt, self._look_into_it()
        return self._doubt if before else ""

    def _look_into_it(self) -> str:
        status, header = os.fstat(self._file), os.pread(self._file, _HEADER_BYTES, 0)
        if not header.startswith(_MAGIC):
            return "it was overwritten or emptied while it was in use"
        page_bytes = int.from_bytes(header[16:18], "big")
        wanted = int.from_bytes(header[28:32], "big") * (65_536 if page_bytes == 1 else page_bytes)
        if status.st_size < wanted:
            return f"it was cut from {wanted} to {status.st_size} bytes while it was in use"
        return ""

    def _heal(self) -> Issue:
        if identity_of(self.path.parent) != self._folder:  # the folder that is there now does not have the arrivals
            return self._issue(
                "its folder was deleted or replaced while it was in use", f"put the folder back; {REBUILD}"
            )
        if identity_of(self.path) not in {None, self._ledger.identity}:
            return self._replaced()
        try:
            self._ledger.restore()
            self._open_it()
        except (OSError, sqlite3.Error, LedgerError) as error:
            return self._issue(f"it was deleted while it was in use, and cannot be restored: {error}", REBUILD)
        logger.error("the ledger was deleted while it was in use; it was restored from the open file")
        text = "it was deleted while it was in use; it was restored from the open file, nothing is missing"
        return self._issue(text, "nothing is left to do; find out what deletes files there")

    def _replaced(self) -> Issue:
        """Keep a copy of the sensor's own ledger beside the other file: a user has to say which of the two counts."""
        if self._kept is None:
            kept = self.path.with_name(f"{self.path.name}.in-use-{datetime.now(UTC):%Y%m%d-%H%M%S}")
            try:
                self._ledger.copy_to(kept)
            except (OSError, sqlite3.Error) as error:
                logger.error("the ledger that is in use cannot be copied to %s: %s", kept, error)  # noqa: TRY400
            else:
                self._kept = kept
        kept = f"; what the sensor has written is in {self._kept}" if self._kept else ""
        return self._issue(
            f"another file was put in its place while it was in use{kept}",
            f"stop `just up`, leave the right one of the two at {self.path} without its -wal and -shm, and start again",
        )

    @staticmethod
    def _issue(reason: str, mend: str) -> Issue:
        title = "The ledger was deleted, replaced or damaged"
        return Issue("ledger file", title, {"ledger": reason}, mend, patience_seconds=0)

    def close(self) -> None:
        """Close the connection."""
        self._ledger.close()


@dataclass
class FolderGuard:
    """Watches folders that must stay the same; each has a name and a path."""

    kept: Mapping[str, Path]
    """Folders whose contents cannot be made again."""
    inboxes: Mapping[str, Path]
    """The local inboxes. A folder that replaces one of them is used: the watch follows it."""
    made_again: Path
    """Inboxes below this folder are the sensor's own, and are made again when they are deleted."""
    _known: dict[Path, tuple[int, int]] = field(default_factory=dict[Path, tuple[int, int]], init=False)

    def look(self) -> Iterator[Issue]:
        """Yield the current problems of the folders."""
        for name, path in self.kept.items():
            if wrong := self._changed(path):
                mend = f"put it back as it was, or {_RESTART}; {REBUILD}"
                text = f"{path} was {wrong} while it was in use"
                yield self._issue(f"The {name} was deleted or replaced", path, text, mend)
        for name, path in self.inboxes.items():
            wrong = self._changed(path)
            if wrong == "replaced":
                logger.warning("inbox %s: %s was replaced; the new folder is watched", name, path)
                self._known.pop(path)
            elif wrong and not self._make_again(path):
                mend = f"make the folder {path} again, or mount it; the inbox goes on by itself"
                yield self._issue(f"The folder of inbox {name} is gone", path, f"{path} was {wrong}", mend)
            elif wrong:
                text = f"{path} was {wrong}, and was made again; files that were in it are gone"
                yield self._issue(f"The folder of inbox {name} was deleted", path, text, "nothing is left to do")

    def _changed(self, path: Path) -> str:
        try:
            found = identity_of(path)
        except OSError:
            return ""  # a folder that cannot be read now is reported by the code that needs it
        known = self._known.get(path)
        if known is None and found is not None:
            self._known[path] = found
        if known is None or known == found:
            return ""
        return "deleted" if found is None else "replaced"

    def _make_again(self, path: Path) -> bool:
        if not path.is_relative_to(self.made_again) or not self.made_again.is_dir():
            return False
        try:
            path.mkdir()
        except OSError:
            return False
        self._known.pop(path)
        return True

    @staticmethod
    def _issue(title: str, path: Path, reason: str, mend: str) -> Issue:
        return Issue(f"folder {path}", title, {str(path): reason}, mend, patience_seconds=0)
