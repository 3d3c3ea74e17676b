"""Alerts, their causes and their states; text from outside is made safe to show.

Prefect hands a notification block a subject and a body and nothing else. So the templates of our automations end in a
line of JSON after `bell: `, the cause. It says which alerts report the same thing, which are limited together, and
which channels they go to. The line is removed before the alert is sent.
"""

import hashlib
import re
import unicodedata
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

# Most services cut longer subjects anyway, each at another length.
SUBJECT_LIMIT = 200
LINE_LIMIT = 1000

# Some of these reorder the text around them, so that "fdp.exe" is shown as "exe.pdf".
_DIRECTION_MARKS = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
_CREDENTIALS_IN_URL = re.compile(
    r"(?<=://)[^/?#\s]+(?=@)|(?<=[?&])(?P<name>[^=&\s]*(?:token|key|secret|passw|sig)[^=&\s]*=)[^&\s]+", re.IGNORECASE
)
# What chat services turn into a mention (`@everyone`, `@name`, Slack's `<!here>` and `<@U123>`, `<at>` of Teams and
# Lark, `<users/all>` of Google Chat), and links whose text may differ from their target: `[text](url)`, `<url|text>`.
# An invisible word joiner disables them.
_MENTION = re.compile(
    r"(?<![\w.+-])(?<!://\*\*\*)@(?=\w)|@(?=(?:everyone|here)\b)|<(?=[!@#&]|/?at\b|users/|[a-z][a-z0-9+.-]*:)|\](?=[(\[])",
    re.IGNORECASE,
)
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
        password, tokens and keys in a URL become `***`; mentions are disabled; the subject is folded
        into one line of at most SUBJECT_LIMIT characters, and a line of the body is cut at LINE_LIMIT, so that the
        next ones are still seen.
        """
        one_line = " ".join(harmless(subject or "Alert").split()) or "Alert"
        lines = (_cut(line, LINE_LIMIT) for line in harmless(body).strip().split("\n"))
        return cls(subject=_cut(one_line, SUBJECT_LIMIT), body="\n".join(lines))


def _cut(line: str, limit: int) -> str:
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def harmless(text: str) -> str:
    """Return untrusted text with control characters replaced, credentials masked and mentions disabled; keep lines.

    Only a line feed ends a line. Other characters that some programs treat as a line break are replaced too, so that a
    value cannot start a line.
    """
    lines = ("".join(map(_printable, line)) for line in text.replace("\r\n", "\n").split("\n"))
    text = _CREDENTIALS_IN_URL.sub(lambda found: f"{found['name'] or ''}***", "\n".join(lines))
    return _MENTION.sub(lambda found: f"{found[0]}{_WORD_JOINER}", text)


def _printable(character: str) -> str:
    if character == "\t":
        return " "
    hostile = unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _DIRECTION_MARKS
    return "\N{REPLACEMENT CHARACTER}" if hostile else character


MARK = "bell: "
GROUP_LIMIT = 200
_OWN = "alert/"

NotifyType: TypeAlias = Literal["info", "success", "warning", "failure"]


def _short(group: object) -> object:
    """Shorten a long group name, so that a digest can be named after it; None means no group, rather than no cause."""
    if group is None:
        return ""
    if not isinstance(group, str) or len(group) <= GROUP_LIMIT:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:16]
    return f"{group[: GROUP_LIMIT - len(digest) - 1]}…{digest}"


class Unless(BaseModel):
    """An event that makes the alert unnecessary if it happened after `after` and comes within `wait_seconds`."""

    model_config = ConfigDict(frozen=True)

    event: str
    resource: str
    after: AwareDatetime
    wait_seconds: float = Field(ge=0, le=3600)


class AlertMetadata(BaseModel):
    """What an alert is about; without this information every alert is about something of its own."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=lambda: f"{_OWN}{uuid.uuid4()}", min_length=1, max_length=500)
    """An alert is sent once per id; for an automation it is the triggering event's id and the automation's name."""
    alias: str | None = Field(default=None, max_length=500)
    """Another name for what happened: of several alerts with the same alias, shortly after each other, one is sent."""
    kind: str = "alert"
    group: Annotated[str, BeforeValidator(_short)] = ""
    """The unit of the rate limit: if a group has too many alerts, digests sum them up. Empty: no limit."""
    tags: tuple[str, ...] = ()
    """They select the alert's channels; every alert has the tag `alert:<kind>` as well."""
    type: NotifyType = "failure"
    """How services that colour messages show the alert."""
    occurred: AwareDatetime | None = None
    """When it happened, if not just now: an alert that is sent long after says so."""
    opens: str | None = None
    """The incident that begins with this alert."""
    ends: str | None = None
    """The incident that ends with this alert, which is sent only if the beginning was reported."""
    void: bool = False
    """Whether it was over before the alert could be sent."""
    unless: Unless | None = None

    @property
    def is_its_own(self) -> bool:
        """Whether no id was given, so that a repetition of the alert cannot be recognized."""
        return self.id.startswith(_OWN)

    @property
    def all_tags(self) -> tuple[str, ...]:
        """The tags, including `alert:<kind>`."""
        return (*self.tags, f"alert:{self.kind}")


def split(body: str) -> tuple[str, AlertMetadata]:
    """Return the body's text, and the cause in its last line.

    A cause that cannot be read is left out all the same; the alert is then about something of its own.

    >>> split('Run: otter\\nbell: {"id": "7", "group": "daily"}')[0]
    'Run: otter'
    """
    text, _, last = body.rstrip().rpartition("\n")
    mark = MARK.rstrip()
    if not last.startswith(mark):
        return body, AlertMetadata()
    try:
        return text.rstrip(), AlertMetadata.model_validate_json(last.removeprefix(mark))
    except ValidationError:
        return text.rstrip(), AlertMetadata()


# `schema/1.sql` repeats these states in its CHECK constraints.


class AlertState(StrEnum):
    """The state of an alert."""

    WAITING = "waiting"  # an event may still make it unnecessary
    GATHERED = "gathered"  # in a storm or during quiet hours: a digest will report it
    PENDING = "pending"  # to be delivered
    DELIVERED = "delivered"
    SUMMED_UP = "summed up"  # another alert reports it, usually a digest
    CANCELLED = "cancelled"  # over before it was sent


class DeliveryState(StrEnum):
    """The state of an alert on one channel."""

    PENDING = "pending"
    SENDING = "sending"  # claimed by a process, for a limited time
    DELIVERED = "delivered"
