"""Storms: of many alerts of one group a few are told one by one, the others by a digest now and then.

Pure: what is decided here depends on its arguments alone.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from automations.delivery.models import Alert

FIRST_DIGEST = timedelta(minutes=1)
"""A storm's first digest comes soon, or after the window if that is shorter; then there is one a window."""
FIRST_FEW = 3
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


def digest(gathering: Gathering, waiting: Sequence[Gathered]) -> Alert:
    """Return one message that tells of many: how many of which kind, and the first few of them."""
    counts = Counter(one.kind for one in waiting)
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    since = f"{gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z}"
    first = [f"- {one.subject}" for one in waiting[:FIRST_FEW]]
    more = len(waiting) - len(first)
    where = gathering.group or "several places"
    return Alert.of(
        f"{len(waiting)} alerts of {where}",
        "\n".join(
            [
                f"Kinds: {kinds}",
                f"Since: {since}" + (" (hours of silence)" if gathering.why is Why.SILENCE else ""),
                *first,
                *([f"- and {more} more, all in the log of alerts"] if more else []),
            ]
        ),
    )


def calm(gathering: Gathering, limit: StormLimit) -> Alert:
    """Return the one message that ends a storm."""
    minutes = limit.window.total_seconds() / 60
    return Alert.of(
        f"Quiet again: {gathering.group}",
        f"No alert for {minutes:g} min.\n"
        f"Since {gathering.opened_at.astimezone():%Y-%m-%d %H:%M %Z} {gathering.summed_up} alerts were summed up.",
    )
