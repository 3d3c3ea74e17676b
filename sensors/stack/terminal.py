"""Console output of `up` and other commands: plain lines, and on a terminal a spinner during waits."""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sensors.stack.supervisor import Incident

TAIL_LINES = 15


class _LastingConsole(Console):
    """A console that ignores a broken pipe, as of `just up | head`, so that the stack is still stopped in order."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class Terminal:
    """A console that counts the seconds since its creation."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or _LastingConsole(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the creation."""
        return time.monotonic() - self._started

    def say(self, line: str, style: str = "") -> None:
        """Print one line as plain text, without interpreting markup."""
        with suppress(OSError):  # the terminal was closed
            self.console.print(Text(line, style=style))

    def step(self, line: str) -> None:
        """Print one line, preceded by the elapsed seconds."""
        self.say(f"{self.seconds:6.1f} s  {line}")

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Show a spinner inside the block, if the output is a terminal."""
        with self.console.status(Text(what)) if self.console.is_terminal else _nothing():
            yield

    def show_incident(self, incident: Incident, log: Path) -> None:
        """Print an incident; for a service that is given up, also the end of its log and what to do."""
        if not incident.gave_up:
            self.say(incident.message, "yellow")
            return
        self.say(f"{incident.message}; the last lines of {log}:", "bold red")
        self.show_lines(tail(log))
        self.say(
            "the other services keep running and no file is lost; put right what the log says, "
            "then stop this (Ctrl-C) and run `just up` again",
            "red",
        )

    def show_lines(self, lines: Iterable[str]) -> None:
        """Print the lines of a log, indented."""
        for line in lines:
            self.say(f"    {line}", "dim")


def tail(file: Path, lines: int = TAIL_LINES, begin: int = 0) -> list[str]:
    """Return the last lines of a text file, at most 20 kB and from byte `begin` on; empty if it cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.seek(max(begin, file.stat().st_size - 20_000))
            return opened.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


@contextmanager
def _nothing() -> Generator[None]:
    yield
