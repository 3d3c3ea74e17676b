"""One alert, made safe to show: what a hostile file name or error text could do is undone here."""

import hashlib
import re
import unicodedata
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

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


# What an alert is about: the last line of its body tells the bell, and no person sees it.
#
# Prefect hands a notification block a subject and a body and nothing else. So the templates of our automations end in
# a line of JSON after `bell: `, from which the outbox knows what is told once, what belongs together and who is to
# have it.

MARK = "bell: "
GROUP_LIMIT = 200
_OWN = "alert/"

NotifyType: TypeAlias = Literal["info", "success", "warning", "failure"]


def _short(group: object) -> object:
    """Return a group by which a digest can be named; what has no name is in none, rather than without all the rest."""
    if group is None:
        return ""
    if not isinstance(group, str) or len(group) <= GROUP_LIMIT:
        return group
    digest = hashlib.sha256(group.encode()).hexdigest()[:16]
    return f"{group[: GROUP_LIMIT - len(digest) - 1]}…{digest}"


class Unless(BaseModel):
    """An event that makes the alert needless, if it happened after a moment and comes within a number of seconds."""

    model_config = ConfigDict(frozen=True)

    event: str
    resource: str
    after: AwareDatetime
    wait_seconds: float = Field(ge=0, le=3600)


class Cause(BaseModel):
    """What an alert is about; without a word about it every alert is about something of its own."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(default_factory=lambda: f"{_OWN}{uuid.uuid4()}", min_length=1, max_length=500)
    """Nobody is told twice of the same; for an automation it is the triggering event's id and its own name."""
    alias: str | None = Field(default=None, max_length=500)
    """Another name for what happened: of several with the same one, shortly after each other, one is told."""
    kind: str = "alert"
    group: Annotated[str, BeforeValidator(_short)] = ""
    """What bounds a storm: alerts of one group are summed up when there are too many. Empty: never."""
    tags: tuple[str, ...] = ()
    """By these an alert finds its channels; every alert is tagged `alert:<kind>` as well."""
    type: NotifyType = "failure"
    """How services that colour messages show this one."""
    occurred: AwareDatetime | None = None
    """When it happened, if not just now: what is told long after says so."""
    opens: str | None = None
    """The trouble that begins with this alert."""
    ends: str | None = None
    """The trouble that is over with this alert; it is told only if somebody was told of the beginning."""
    void: bool = False
    """Whether it was over before it could be told."""
    unless: Unless | None = None

    @property
    def is_its_own(self) -> bool:
        """Whether nobody said what it is about, so that nobody can tell whether it was told before."""
        return self.id.startswith(_OWN)

    @property
    def all_tags(self) -> tuple[str, ...]:
        """The tags, with the one that tells the kind."""
        return (*self.tags, f"alert:{self.kind}")


def split(body: str) -> tuple[str, Cause]:
    """Return what a person is to read, and the cause that the body's last line tells.

    A line that cannot be read is left out all the same; the alert is then about something of its own.

    >>> split('Run: otter\\nbell: {"id": "7", "group": "daily"}')[0]
    'Run: otter'
    """
    text, _, last = body.rstrip().rpartition("\n")
    mark = MARK.rstrip()
    if not last.startswith(mark):
        return body, Cause()
    try:
        return text.rstrip(), Cause.model_validate_json(last.removeprefix(mark))
    except ValidationError:
        return text.rstrip(), Cause()


# The states of an alert and of its deliveries; `outbox.sql` mirrors them in its CHECKs.


class AlertState(StrEnum):
    """How far an alert has come."""

    WAITING = "waiting"  # an event may still make it needless
    GATHERED = "gathered"  # in a storm, or in the hours of silence: a digest tells of it
    PENDING = "pending"  # to be delivered
    DELIVERED = "delivered"
    SUMMED_UP = "summed up"  # another one tells of it, a digest as a rule
    CANCELLED = "cancelled"  # over before it was told


class DeliveryState(StrEnum):
    """How far an alert has come on one channel."""

    PENDING = "pending"
    SENDING = "sending"  # claimed by a process, until a time
    DELIVERED = "delivered"
