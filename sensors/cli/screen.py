"""The screen: where the commands print, be it a terminal or a pipe."""

from rich.console import Console

WIDE = 220
"""Columns of what goes into a pipe or a file, where nothing is too wide and nobody sees what was cut off."""


def open_console() -> Console:
    """Return a console as wide as the terminal; into a pipe it is wide enough for everything."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)
