"""Console output: the console's width, escaping of untrusted text, and formats of times and durations.

File names, reasons and log lines come from other users and programs, and may contain control characters.
"""

from datetime import datetime

from rich.console import Console
from rich.text import Text

from sensors.config.admission import readable

WIDE = 220
"""Columns of output to a pipe or a file: wide enough that nothing is cut off."""


def open_console() -> Console:
    """Return a console as wide as the terminal, or `WIDE` columns wide for a pipe or a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


TAB = 8


def harmless(text: str) -> str:
    r"""Escape characters that are not printable and could control the terminal; tabs become spaces.

    >>> harmless("a\x1b[2Jb"), harmless("a\tb")
    ('a\\x1b[2Jb', 'a       b')
    """
    return readable(text.expandtabs(TAB))


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text for rich, escaped, and without interpreting `[red]` in it as markup."""
    return Text(harmless(text), style)


_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


def local(moment: datetime | None) -> str:
    """Format a moment in local time to the second; an empty string for None."""
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def seconds(span: float | None) -> str:
    """Format a duration in seconds, so that durations can be compared; an empty string for None.

    >>> seconds(0.7512), seconds(75.2), seconds(None)
    ('0.75 s', '75 s', '')
    """
    if span is None:
        return ""
    return f"{span:.2f} s" if abs(span) < 10 else f"{span:,.0f} s"


def span(length: float) -> str:
    """Format a duration, given in seconds, in its largest whole unit.

    >>> span(3.4), span(200), span(7300), span(200_000)
    ('3 s', '3 min', '2 h', '2 d')
    """
    for unit, of_it in _UNITS:
        if length >= of_it:
            return f"{length // of_it:.0f} {unit}"
    return f"{max(0.0, length):.0f} s"


def ago(moment: datetime | None, now: datetime) -> str:
    """Format how long ago a moment was; an empty string for None."""
    return "" if moment is None else f"{span((now - moment).total_seconds())} ago"
