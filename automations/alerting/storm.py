"""Storms: of many alerts of one group a few are told one by one, the others by a digest now and then.

Pure: what is decided here depends on its arguments alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from automations.alerting.alert import Alert

FIRST_DIGEST = timedelta(minutes=1)
"""A storm's first digest comes soon, or after the window if that is shorter; then there is one a window."""
SHOWN = 50
"""How many alerts a digest names at most, where the channel has room for them."""
REASON_LIMIT = 200
FORM = "5/10m"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


@dataclass(frozen=True)
class StormLimit:
    """At most so many messages of a group in a window."""

    messages: int = 5
    window: timedelta = timedelta(minutes=10)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `5/10m`; raises ValueError."""
        match = re.fullmatch(r"(?P<messages>[1-9]\d{0,5})/(?P<span>[1-9]\d{0,4})(?P<unit>[smh])", text.strip())
        if match is None:
            raise ValueError(f"expected messages and a window such as {FORM}, got {text!r}")
        return cls(int(match["messages"]), timedelta(**{_UNITS[match["unit"]]: int(match["span"])}))


class Why(StrEnum):
    """Why alerts are gathered."""

    STORM = "storm"
    SILENCE = "silence"


@dataclass(frozen=True)
class Gathering:
    """Where the alerts of a group are gathered at the moment, and when that is told of or ends."""

    group: str
    why: Why
    opened_at: datetime
    due_at: datetime
    digests: int = 0
    summed_up: int = 0


@dataclass(frozen=True)
class Gathered:
    """One alert that waits in a gathering."""

    cause: str
    kind: str
    subject: str
    tags: tuple[str, ...]
    body: str = ""

    @property
    def reason(self) -> str:
        """What went wrong: the message of the run, or the first line that gives a reason."""
        found = _line(self.body, ("Message: ", "Reason: ")) or self.body.partition("\n")[0]
        return found if len(found) <= REASON_LIMIT else f"{found[: REASON_LIMIT - 1]}…"

    @property
    def link(self) -> str:
        """The address of its page, if its text has one."""
        return next((line for line in reversed(self.body.splitlines()) if re.match(r"https?://\S+$", line)), "")


def _line(body: str, begins: Sequence[str]) -> str:
    lines = body.splitlines()
    return next((line.removeprefix(one) for one in begins for line in lines if line.startswith(one)), "")


class Verdict(StrEnum):
    """What becomes of a gathering whose time has come."""

    RELEASE = "release"  # few enough to be told one by one
    DIGEST = "digest"
    CALM = "calm"  # nothing came any more


def joins(
    group: str,
    recent: int,
    gathering: Gathering | None,
    limit: StormLimit,
    silent_until: datetime | None,
    now: datetime,
) -> Gathering | None:
    """Return the gathering that a new alert of a group joins, or None when it is to be told at once.

    `recent` counts the group's alerts that were told one by one within the window. What has no group is only
    gathered in silence.
    """
    is_too_much = bool(group) and recent >= limit.messages
    if silent_until is not None:
        return gathering or Gathering(group, Why.SILENCE, now, silent_until)
    if gathering is None:
        return Gathering(group, Why.STORM, now, now + min(FIRST_DIGEST, limit.window)) if is_too_much else None
    if gathering.why is Why.SILENCE and not is_too_much:
        return None  # the others are held back until the morning, this one is not
    return replace(gathering, due_at=min(gathering.due_at, now + limit.window))


def judge(gathering: Gathering, waiting: int, recent: int, limit: StormLimit) -> Verdict:
    """Return what becomes of a gathering that is due, in which so many alerts wait; `recent` is as in `joins`."""
    # In a storm a single one takes the place of the digest that would tell of it.
    few = max(0, limit.messages - recent) if gathering.why is Why.SILENCE else 1
    if waiting == 0:
        return Verdict.CALM
    return Verdict.RELEASE if waiting <= few else Verdict.DIGEST


def goes_on(gathering: Gathering, verdict: Verdict, limit: StormLimit, now: datetime) -> Gathering | None:
    """Return the gathering as it goes on, or None when it is over."""
    if gathering.why is Why.SILENCE or verdict is Verdict.CALM:
        return None
    return replace(gathering, due_at=now + limit.window, digests=gathering.digests + 1)


def digest(
    gathering: Gathering, waiting: Sequence[Gathered], fits: Callable[[Alert], bool] = lambda alert: True
) -> Alert:
    """Return one message for many: how many of which kind, and for each its subject, its reason and its link.

    `fits` says whether every channel takes a message whole; as many alerts are named as there is room for.
    """
    most = min(len(waiting), SHOWN)
    if fits(made := _digest(gathering, waiting, most)):
        return made
    low, high = 0, most - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(_digest(gathering, waiting, middle)) else (low, middle - 1)
    return _digest(gathering, waiting, max(low, 1))  # one is named in any case, and the channel cuts it


def _digest(gathering: Gathering, waiting: Sequence[Gathered], named: int) -> Alert:
    counts = Counter(one.kind for one in waiting)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    since = f"{gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z}"
    lines = [f"Kinds: {kinds}", f"Since: {since}" + (" (hours of silence)" if gathering.why is Why.SILENCE else "")]
    for one in waiting[:named]:
        lines.append(f"- {one.subject}" + (f": {one.reason}" if one.reason else ""))
        if one.link:
            lines.append(f"  {one.link}")
    if more := len(waiting) - named:
        lines.append(f"- and {more} more, all in the log of alerts")
    where = gathering.group or "several places"
    return Alert.of(f"{len(waiting)} alerts of {where}", "\n".join(lines))


def calm(gathering: Gathering, limit: StormLimit) -> Alert:
    """Return the one message that ends a storm."""
    minutes = limit.window.total_seconds() / 60
    return Alert.of(
        f"Quiet again: {gathering.group}",
        f"No alert for {minutes:g} min.\n"
        f"Since {gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z} {gathering.summed_up} alerts were summed up.",
    )
