"""The end of a log file, and what is appended to it, also across its rotation."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 16


@dataclass
class LogTail:
    """Reads one log from its end; a file that is not there yet may come."""

    path: Path
    _file: BinaryIO | None = field(default=None, init=False)
    _rest: bytes = field(default=b"", init=False)
    """A line of which the end has not been written yet."""

    def last(self, lines: int) -> list[str]:
        """Return the last lines, and go on from there; nothing if there is no file."""
        if not self._open():
            return []
        assert self._file is not None  # noqa: S101 # it was opened above
        text = _end_of(self._file, lines)
        whole, newline, self._rest = text.rpartition(b"\n")
        return _lines(whole + newline)[-lines:] if lines else []

    def more(self) -> list[str]:
        """Return the lines that were written since the last call."""
        if self._file is None and not self._open():
            return []
        found = self._read()
        if self._was_replaced():
            self.close()
            self._rest = b""
            if self._open():
                found += self._read()
        return found

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self.path.open("rb")
        except OSError:
            return False
        return True

    def _read(self) -> list[str]:
        assert self._file is not None  # noqa: S101 # the callers opened it
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self._file.seek(0)  # it was emptied in place
            self._rest = b""
        whole, newline, self._rest = (self._rest + self._file.read()).rpartition(b"\n")
        return _lines(whole + newline)

    def _was_replaced(self) -> bool:
        """Tell whether the path has another file by now: supervisord puts a full one aside."""
        assert self._file is not None  # noqa: S101 # the callers opened it
        try:
            now = self.path.stat()
        except OSError:
            return False  # between the two renames
        ours = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def _end_of(file: BinaryIO, lines: int) -> bytes:
    """Return the end of a file with at least so many lines, if it has them; the file stands at its end then."""
    at = file.seek(0, os.SEEK_END)
    text = b""
    while at > 0 and text.count(b"\n") <= lines:
        size = min(_BLOCK, at)
        at = file.seek(at - size)
        text = file.read(size) + text
    file.seek(0, os.SEEK_END)
    return text


def _lines(text: bytes) -> list[str]:
    return text.decode("utf-8", "replace").splitlines()
