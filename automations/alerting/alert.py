"""One alert, made safe to show: what a hostile file name or error text could do is undone here."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

# Longer subjects are cut by most services anyway, and by each at another place.
SUBJECT_LIMIT = 200

# Some of these reorder the text around them, so that "fdp.exe" is shown as "exe.pdf".
_DIRECTION_MARKS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
_CREDENTIALS_IN_URL = re.compile(
    r"(?<=://)[^/?#\s]+(?=@)|(?<=[?&])(?P<name>[^=&\s]*(?:token|key|secret|passw|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE
)


@dataclass(frozen=True)
class Alert:
    """A subject of one line and a body of plain text."""

    subject: str
    body: str

    @classmethod
    def of(cls, subject: str | None, body: str) -> Self:
        """Make an alert of untrusted text.

        Control characters, direction marks and lone surrogates become a replacement character; user and
        password, tokens and keys in a URL become `***`; the subject is folded into one line of at most
        SUBJECT_LIMIT characters.
        """
        one_line = " ".join(_harmless(subject or "Alert").split()) or "Alert"
        if len(one_line) > SUBJECT_LIMIT:
            one_line = one_line[: SUBJECT_LIMIT - 1] + "…"
        return cls(subject=one_line, body=_harmless(body).strip())


def _harmless(text: str) -> str:
    lines = ("".join(map(_printable, line)) for line in text.splitlines())
    return _CREDENTIALS_IN_URL.sub(lambda found: f"{found['name'] or ''}***", "\n".join(lines))


def _printable(character: str) -> str:
    if character == "\t":
        return " "
    hostile = unicodedata.category(character) in {"Cc", "Cs"} or character in _DIRECTION_MARKS
    return "\N{REPLACEMENT CHARACTER}" if hostile else character
