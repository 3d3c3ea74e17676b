"""The screen: where the commands print, be it a terminal or a pipe."""

from datetime import datetime

from rich.console import Console
from rich.text import Text

from sensors.config.admission import readable

WIDE = 220
"""Columns of what goes into a pipe or a file, where nothing is too wide and nobody sees what was cut off."""


def open_console() -> Console:
    """Return a console as wide as the terminal; into a pipe it is wide enough for everything."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


# Foreign text made harmless: file names, reasons and log lines hold what somebody else has written.

TAB = 8


def harmless(text: str) -> str:
    r"""Return text in which nothing steers a terminal: what is not printable is escaped, tabs become spaces.

    >>> harmless("a\x1b[2Jb"), harmless("a\tb")
    ('a\\x1b[2Jb', 'a       b')
    """
    return readable(text.expandtabs(TAB))


def plain(text: str, style: str = "") -> Text:
    """Return foreign text for rich: it is harmless, and no `[red]` in it is taken for markup."""
    return Text(harmless(text), style)


# How moments and spans of time are written for a person: local time, and the unit that says enough.

_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


def local(moment: datetime | None) -> str:
    """Return a moment in local time to the second, or an empty string for one that was not reached."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def seconds(span: float | None) -> str:
    """Return a span in seconds as it is compared by eye, or an empty string.

    >>> seconds(0.7512), seconds(75.2), seconds(None)
    ('0.75 s', '75 s', '')
    """
    if span is None:
        return ""
    return f"{span:.2f} s" if abs(span) < 10 else f"{span:,.0f} s"


def span(length: float) -> str:
    """Return a span, given in seconds, in its largest whole unit.

    >>> span(3.4), span(200), span(7300), span(200_000)
    ('3 s', '3 min', '2 h', '2 d')
    """
    for unit, of_it in _UNITS:
        if length >= of_it:
            return f"{length // of_it:.0f} {unit}"
    return f"{max(0.0, length):.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return how long ago a moment was, in words, or an empty string."""
    return "" if moment is None else f"{span((now - moment).total_seconds())} ago"
