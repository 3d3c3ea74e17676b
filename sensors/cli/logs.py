"""Print the last lines of the services' logs, and follow them across rotation (`just logs`)."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from sensors.config.settings import Settings
from sensors.runtime.text import readable
from sensors.stack.errors import StackError
from sensors.stack.services import log_file, programs
from sensors.stack.terminal import open_console, plain

_BLOCK = 1 << 16


@dataclass
class LogTail:
    """Reads one log from its end; the file may be created later."""

    path: Path
    _file: BinaryIO | None = field(default=None, init=False)
    _rest: bytes = field(default=b"", init=False)
    """The beginning of a line whose end has not been written yet."""

    def last(self, lines: int) -> list[str]:
        """Return the last lines; `more` continues after them. Returns no lines if there is no file."""
        if not self._open():
            return []
        assert self._file is not None  # noqa: S101 # it was opened above
        text = _end_of(self._file, lines)
        whole, newline, self._rest = text.rpartition(b"\n")
        return _lines(whole + newline)[-lines:] if lines else []

    def more(self) -> list[str]:
        """Return the lines that were written since the last call of `last` or `more`."""
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
            self._file.seek(0)  # the file was truncated
            self._rest = b""
        whole, newline, self._rest = (self._rest + self._file.read()).rpartition(b"\n")
        return _lines(whole + newline)

    def _was_replaced(self) -> bool:
        """Return whether the path has another file by now: supervisord rotates a full log."""
        assert self._file is not None  # noqa: S101 # the callers opened it
        try:
            now = self.path.stat()
        except OSError:
            return False  # between the two renames
        ours = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def _end_of(file: BinaryIO, lines: int) -> bytes:
    """Return the end of a file with at least `lines` lines, if it has so many; leave the position at its end."""
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


OTHERS = ("alerts", "supervisor")
"""Logs that belong to no service: every alert, and supervisord's own log."""
EVERY_SECONDS = 0.25
_STYLES = ("cyan", "green", "magenta", "blue", "yellow", "red")


def show_logs(settings: Settings, service: str | None, *, lines: int, follow: bool) -> None:
    """Print the last lines of all logs or of one service's; with `follow` also new lines, until Ctrl-C.

    Raises StackError for an unknown name, and without `follow` also if there is no log yet.
    """
    names = log_names(settings, service)
    if not follow and not any(log_file(settings, name).exists() for name in names):
        raise StackError(f"there is no log of {', '.join(names)} in {settings.logs_dir}; `just up` starts the services")
    view_logs(settings, names, open_console(), lines=lines, follow=follow)


def log_names(settings: Settings, service: str | None) -> list[str]:
    """Return the names of the logs: of all processes and the alerts, of a service's processes, or of one process.

    Raises StackError for an unknown name; its message lists the known ones.
    """
    all_programs = programs(settings)
    if service is None:
        return [*(program.name for program in all_programs), OTHERS[0]]
    if service in OTHERS:
        return [service]
    if found := [program.name for program in all_programs if service in {program.service.value, program.name}]:
        return found
    there_is = dict.fromkeys(name for program in all_programs for name in (program.service.value, program.name))
    raise StackError(f"there is no service {readable(service)}; there is {', '.join([*there_is, *OTHERS])}")


def view_logs(
    settings: Settings,
    names: Sequence[str],
    console: Console,
    *,
    lines: int,
    follow: bool,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Print these logs; with several, each line begins with the log's name."""
    width = max(map(len, names)) if len(names) > 1 else 0
    tails = {name: LogTail(log_file(settings, name)) for name in names}
    styles = {name: _STYLES[place % len(_STYLES)] for place, name in enumerate(names)}

    def show(name: str, said: Sequence[str]) -> None:
        for line in said:
            text = Text(f"{name:<{width}} | " if width else "").append_text(plain(line))
            text.stylize(styles[name], 0, width)
            console.print(text, soft_wrap=True)

    try:
        for name, tail in tails.items():
            show(name, tail.last(lines))
        while follow:
            pause(EVERY_SECONDS)
            for name, tail in tails.items():
                show(name, tail.more())
    except KeyboardInterrupt:
        return
    finally:
        for tail in tails.values():
            tail.close()
