"""Which events fire an automation: as much of Prefect's rules as alerts need that nobody but we can miss.

The rules are those of `EventTrigger.covers` in `prefect.server.events.schemas.automations`. That module cannot be used
in the sensor, as it brings the whole server with it; a test compares the two.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from automations.delivery.happening import Happening, Resource


@dataclass(frozen=True)
class Awaited:
    """An event after which another one is expected, and the time until when it may come."""

    begun: Happening
    until: datetime


def fires(trigger: Mapping[str, Any], happening: Happening) -> bool:
    """Return whether each such event fires the trigger.

    False for every trigger that counts events, waits for their absence, or combines others.
    """
    if trigger.get("type", "event") != "event" or trigger.get("posture") != "Reactive" or trigger.get("after"):
        return False
    if trigger.get("threshold", 1) != 1:
        return False
    return _expects(trigger.get("expect"), happening.event) and matches(trigger, happening)


def waits(trigger: Mapping[str, Any]) -> bool:
    """Return whether the trigger fires when an event is not followed by another one in time."""
    is_event = trigger.get("type", "event") == "event" and trigger.get("posture") == "Proactive"
    return bool(is_event and trigger.get("after") and trigger.get("threshold", 1) == 1)


def awaited(trigger: Mapping[str, Any], history: Iterable[Happening]) -> Awaited | None:
    """Return what a trigger that waits is waiting for, given all events of one resource, the oldest first."""
    begun: Happening | None = None
    for happening in history:
        if not matches(trigger, happening):
            continue
        if _expects(trigger.get("expect"), happening.event):
            begun = None
        elif begun is None and _expects(trigger["after"], happening.event):
            begun = happening
    return None if begun is None else Awaited(begun, begun.occurred + timedelta(seconds=trigger.get("within") or 0))


def matches(trigger: Mapping[str, Any], happening: Happening) -> bool:
    """Return whether an event is of a resource that the trigger is about, whatever the event is called."""
    related: Any = trigger.get("match_related") or {}
    specifications = cast("list[Mapping[str, Any]]", related if isinstance(related, list) else [related])
    return _includes(trigger.get("match") or {}, [happening.resource]) and all(
        _includes(specification, happening.related) for specification in specifications
    )


def _expects(expected: Any, event: str) -> bool:
    patterns = [re.escape(one).replace(r"\*", ".+") for one in _texts(expected or ["*"])]
    return any(re.match(pattern, event) for pattern in patterns)


def _includes(specification: Mapping[str, Any], candidates: Sequence[Resource]) -> bool:
    return not specification or any(_covers(specification, one) for one in candidates)


def _covers(specification: Mapping[str, Any], resource: Resource) -> bool:
    return all(
        any(_matches(one, resource.get(label)) for one in _texts(wanted)) for label, wanted in specification.items()
    )


def _matches(pattern: str, value: str | None) -> bool:
    if value is None:
        return False
    return fnmatch.fnmatchcase(value, pattern.removeprefix("!")) is not pattern.startswith("!")


def _texts(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [str(one) for one in given]
