"""One alert, made safe to show: what a hostile file name or error text could do is undone here."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

# Longer subjects are cut by most services anyway, and by each at another place.
SUBJECT_LIMIT = 200
LINE_LIMIT = 1000

# Some of these reorder the text around them, so that "fdp.exe" is shown as "exe.pdf".
_DIRECTION_MARKS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
_CREDENTIALS_IN_URL = re.compile(
    r"(?<=://)[^/?#\s]+(?=@)|(?<=[?&])(?P<name>[^=&\s]*(?:token|key|secret|passw|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE
)
# What chat services make a call to many or to one of: `@everyone`, `@name`, Slack's `<!here>` and `<@U123>`, and a link
# whose text is another than its target. A word joiner, which is not seen, takes the meaning away.
_MENTION = re.compile(r"(?<![\w.+-])(?<!://\*\*\*)@(?=\w)|@(?=(?:everyone|here)\b)|<(?=[!@#&])|\](?=\()", re.IGNORECASE)
_WORD_JOINER = "\u2060"


@dataclass(frozen=True)
class Alert:
    """A subject of one line and a body of plain text."""

    subject: str
    body: str

    @classmethod
    def of(cls, subject: str | None, body: str) -> Self:
        """Make an alert of untrusted text.

        Control characters, direction marks and lone surrogates become a replacement character; user and
        password, tokens and keys in a URL become `***`; nobody is called by a mention; the subject is folded
        into one line of at most SUBJECT_LIMIT characters, and a line of the body is cut at LINE_LIMIT, so that the
        next ones are still seen.
        """
        one_line = " ".join(harmless(subject or "Alert").split()) or "Alert"
        lines = (_cut(line, LINE_LIMIT) for line in harmless(body).strip().splitlines())
        return cls(subject=_cut(one_line, SUBJECT_LIMIT), body="\n".join(lines))


def _cut(line: str, limit: int) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def harmless(text: str) -> str:
    """Return untrusted text without what could do more than be read; its lines stay."""
    lines = ("".join(map(_printable, line)) for line in text.splitlines())
    text = _CREDENTIALS_IN_URL.sub(lambda found: f"{found['name'] or ''}***", "\n".join(lines))
    return _MENTION.sub(lambda found: f"{found[0]}{_WORD_JOINER}", text)


def _printable(character: str) -> str:
    if character == "\t":
        return " "
    hostile = unicodedata.category(character) in {"Cc", "Cs"} or character in _DIRECTION_MARKS
    return "\N{REPLACEMENT CHARACTER}" if hostile else character
