"""Text from outside is escaped, and by both packages in the same way."""

import pytest

from automations.as_code import diff
from sensors.runtime import text


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\nb\x1b[31m\udcff.csv", r"a\nb\x1b[31m\udcff.csv"),
        ("right\u202eleft", r"right\u202eleft"),
        ("\x85\u2028\U000e0001\xa0", r"\x85\u2028\U000e0001\xa0"),
        ("Größe 表 [red] \\n", "Größe 表 [red] \\n"),
        ("", ""),
    ],
)
def test_every_character_that_is_not_printable_is_escaped(given, shown):
    assert text.readable(given) == diff.readable(given) == shown
