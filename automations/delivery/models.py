"""What an alert is about: the last line of its body tells the bell, and no person sees it.

Prefect hands a notification block a subject and a body and nothing else. So the templates of our automations end in a
line of JSON after `bell: `, from which the outbox knows what is told once, what belongs together and who is to have it.
"""

import hashlib
import uuid
from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

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
