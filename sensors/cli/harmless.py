"""Foreign text made harmless: file names, reasons and log lines hold what somebody else has written."""

from rich.text import Text

from sensors.config.admission_part import readable

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
