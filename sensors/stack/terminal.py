"""Console output of `up` and other commands: plain lines, and on a terminal a spinner during waits."""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sensors.config.inboxes import Inbox
from sensors.config.settings import Auth, ProfileSettings, Settings, masked
from sensors.runtime.text import counted, readable
from sensors.stack.environment import scale_environment
from sensors.stack.errors import checked_settings
from sensors.stack.services import programs
from sensors.stack.supervisor import Incident

TAIL_LINES = 15
WIDE = 220
"""Columns of output to a pipe or a file: wide enough that nothing is cut off."""
_TAB = 8


def open_console() -> Console:
    """Return a console as wide as the terminal, or `WIDE` columns wide for a pipe or a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text for rich: escaped, tabs expanded, and without interpreting `[red]` in it as markup."""
    return Text(readable(text.expandtabs(_TAB)), style)


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


# Overviews of a stack for the user: addresses and folders after the start, and the profile as a table.
#
# Neither shows secrets.


def summary(settings: Settings, inboxes: tuple[Inbox, ...], env_file: Path) -> list[tuple[str, str]]:
    """Return addresses, folders and log-in of the stack as pairs of a name and a text."""
    folders = [("inbox", f"{inbox.where}  (drop files here: `just drop FILE {inbox.name}`)") for inbox in inboxes]
    return [
        ("page", settings.prefect_page),
        *([("drop page", settings.drop_page)] if settings.sensors or not settings.is_scale else []),
        ("log in", _log_in(settings, env_file)),
        *folders,
        ("warehouse", settings.warehouse),
        ("alerts", _alerts(settings)),
        ("logs", str(settings.logs_dir)),
        ("stop", "Ctrl-C"),
    ]


def _log_in(settings: Settings, env_file: Path) -> str:
    if settings.auth is Auth.OFF:
        return "nothing is asked (AUTH=off)"
    return f"with the value of PREFECT_API_AUTH_STRING, in {env_file}"


def _alerts(settings: Settings) -> str:
    log = settings.logs_dir / "alerts.log"
    urls = len(settings.notify_urls.split())
    if not urls:
        return f"alerts go only to {log}; set NOTIFY_URLS in .env to receive them"
    return f"alerts go to {counted(urls, 'address', 'addresses')} and to {log}"


_PREFECT = "what Prefect gets"
_ADDRESS = "_URL"


def show_profile(console: Console) -> None:
    """Print the profile's settings, this machine's programs and Prefect's settings. Raises StackError."""
    settings = checked_settings()
    for title, rows in profile_rows(settings).items():
        table = Table(box=None, pad_edge=False)
        table.add_column(title, no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(Text(name), Text(value))
        console.print(table, "")


def profile_rows(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the tables by their titles, each with values by their names; secrets are masked."""
    own = {name.upper(): _shown(settings, name) for name in ("profile", "api_host", *ProfileSettings.model_fields)}
    own["WAREHOUSE_URL"] = settings.warehouse
    prefect = {
        name: masked(value) if name.endswith(_ADDRESS) else value for name, value in scale_environment(settings).items()
    }
    runs = {program.name: " ".join(program.arguments) for program in programs(settings)}
    if not settings.is_scale:
        own = {name: own[name] for name in ("PROFILE", "WAREHOUSE_URL")}
    own |= settings.heartbeat_urls
    return {"setting": own, "runs here as": runs, **({_PREFECT: prefect} if prefect else {})}


def _shown(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked(text) if "://" in text else text
    if name == "node_name":
        return settings.node
    if name == "api_server_port":
        return " ".join(map(str, settings.api_server_ports)) or "none"
    return str(value)
