"""Rate limit of alerts: the first few of a group are sent individually, the others in digests.

Pure functions: the result depends on the arguments alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from automations.delivery.models import Alert

FIRST_DIGEST = timedelta(minutes=1)
"""The delay of a storm's first digest, unless the window is shorter; afterwards there is one digest per window."""
SHOWN = 50
"""How many alerts a digest names at most, if its channels have room for them."""
REASON_LIMIT = 200
"""The length at which a digest cuts the reason of an alert."""
FORM = "5/10m"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@dataclass(frozen=True)
class StormLimit:
    """At most this many messages of a group in a window."""

    messages: int = 5
    window: timedelta = timedelta(minutes=10)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a limit such as `5/10m`; raises ValueError."""
        match = re.fullmatch(r"(?P<messages>[1-9]\d{0,5})/(?P<span>[1-9]\d{0,4})(?P<unit>[smh])", text.strip())
        if match is None:
            raise ValueError(f"expected messages and a window such as {FORM}, got {text!r}")
        return cls(int(match["messages"]), timedelta(**{_UNITS[match["unit"]]: int(match["span"])}))


class GatherReason(StrEnum):
    """Why alerts are held back."""

    STORM = "storm"
    SILENCE = "silence"


@dataclass(frozen=True)
class Gathering:
    """The alerts of one group that are held back, and when the next digest is due or the gathering ends."""

    group: str
    why: GatherReason
    opened_at: datetime
    due_at: datetime
    digests: int = 0
    summed_up: int = 0


@dataclass(frozen=True)
class Gathered:
    """One alert that is held back in a gathering."""

    cause: str
    kind: str
    subject: str
    tags: tuple[str, ...]
    body: str = ""

    @property
    def reason(self) -> str:
        """The run's message, else the line with the reason, else the first line of the body."""
        found = _value(self.body, ("Message: ", "Reason: ")) or self.body.partition("\n")[0]
        return found if len(found) <= REASON_LIMIT else f"{found[: REASON_LIMIT - 1]}…"

    @property
    def link(self) -> str:
        """The last line of the body that is a URL, or an empty string."""
        return next((line for line in reversed(self.body.split("\n")) if re.match(r"https?://\S+$", line)), "")


def _value(body: str, labels: Sequence[str]) -> str:
    """Return the rest of the first line that begins with a label, or an empty string; earlier labels come first."""
    lines = body.split("\n")
    return next((line.removeprefix(label) for label in labels for line in lines if line.startswith(label)), "")


class GatherDecision(StrEnum):
    """What happens to a gathering that is due."""

    RELEASE = "release"  # few enough to be sent individually
    DIGEST = "digest"
    CALM = "calm"  # no more alerts came


def joins(
    group: str,
    recent: int,
    gathering: Gathering | None,
    limit: StormLimit,
    silent_until: datetime | None,
    now: datetime,
) -> Gathering | None:
    """Return the gathering that a new alert of a group joins, or None if it is sent immediately.

    `recent` counts the group's alerts that were sent individually within the window. Alerts without a group are held
    back only in quiet hours.
    """
    is_too_much = bool(group) and recent >= limit.messages
    if silent_until is not None:
        return gathering or Gathering(group, GatherReason.SILENCE, now, silent_until)
    if gathering is None:
        return Gathering(group, GatherReason.STORM, now, now + min(FIRST_DIGEST, limit.window)) if is_too_much else None
    if gathering.why is GatherReason.SILENCE and not is_too_much:
        return None  # quiet hours hold back the others, but not this alert
    return replace(gathering, due_at=min(gathering.due_at, now + limit.window))


def judge(gathering: Gathering, waiting: int, recent: int, limit: StormLimit) -> GatherDecision:
    """Return what happens to a due gathering that holds `waiting` alerts; `recent` is as in `joins`."""
    # In a storm a single alert is sent instead of a digest about it.
    few = max(0, limit.messages - recent) if gathering.why is GatherReason.SILENCE else 1
    if waiting == 0:
        return GatherDecision.CALM
    return GatherDecision.RELEASE if waiting <= few else GatherDecision.DIGEST


def goes_on(gathering: Gathering, verdict: GatherDecision, limit: StormLimit, now: datetime) -> Gathering | None:
    """Return the gathering as it continues, or None if it is over."""
    if gathering.why is GatherReason.SILENCE or verdict is GatherDecision.CALM:
        return None
    return replace(gathering, due_at=now + limit.window, digests=gathering.digests + 1)


def digest(
    gathering: Gathering, waiting: Sequence[Gathered], fits: Callable[[Alert], bool] = lambda alert: True
) -> Alert:
    """Return one message about many alerts: how many of each kind, and the subject, reason and link of each.

    `fits` returns whether every channel takes a message without shortening. The digest names as many alerts as fit,
    SHOWN at most and one at least, and counts the others.
    """
    most = min(len(waiting), SHOWN)
    if fits(made := _digest(gathering, waiting, most)):
        return made
    low, high = 0, most - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_digest(gathering, waiting, middle)) else (low, middle - 1)
    return _digest(gathering, waiting, max(low, 1))


def _digest(gathering: Gathering, waiting: Sequence[Gathered], named: int) -> Alert:
    counts = Counter(one.kind for one in waiting)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    since = f"{gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z}"
    is_silence = gathering.why is GatherReason.SILENCE
    lines = [f"Kinds: {kinds}", f"Since: {since}" + (" (hours of silence)" if is_silence else "")]
    for one in waiting[:named]:
        lines.append(f"- {one.subject}" + (f": {one.reason}" if one.reason else ""))
        if one.link:
            lines.append(f"  {one.link}")
    if more := len(waiting) - named:
        lines.append(f"- and {more} more, all in the log of alerts")
    where = gathering.group or "several places"
    return Alert.of(f"{len(waiting)} alerts of {where}", "\n".join(lines))


def calm(gathering: Gathering, limit: StormLimit) -> Alert:
    """Return the message that ends a storm."""
    minutes = limit.window.total_seconds() / 60
    return Alert.of(
        f"Quiet again: {gathering.group}",
        f"No alert for {minutes:g} min.\n"
        f"Since {gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z} {gathering.summed_up} alerts were summed up.",
    )
