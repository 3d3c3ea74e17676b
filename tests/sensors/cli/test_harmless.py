"""Foreign text on a terminal: it is shown and does nothing."""

import pytest
from rich.console import Console

from sensors.stack.terminal import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("right\u202eleft", r"right\u202eleft"),
        ("two\nlines", r"two\nlines"),
        ("a\tb", "a       b"),
        ("Größe 表", "Größe 表"),
    ],
)
def test_what_would_steer_the_terminal_is_escaped(text, shown):
    assert plain(text).plain == shown


def test_markup_is_only_text():
    console = Console(width=80)
    with console.capture() as captured:
        console.print(plain("[bold]x[/bold] [/nothing]"))
    assert captured.get() == "[bold]x[/bold] [/nothing]\n"
