"""The automations that send alerts through our blocks, whether a server tells of them or their files do."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import yaml

from automations.delivery.alert import Alert
from automations.delivery.enqueue import Posting
from automations.delivery.happening import Happening
from automations.delivery.models import Cause, split
from automations.delivery.policy import ALERTS, FALLBACK
from automations.delivery.template import render
from automations.delivery.trigger import Awaited, awaited, fires, matches, waits

_SLUG = "apprise-alerts"
_SEND = "send-notification"


@dataclass(frozen=True)
class SendingAutomation:
    """One notification of one automation."""

    name: str
    trigger: Mapping[str, Any]
    block: str
    subject: str
    body: str
    created: datetime | None = None

    def concerns(self, happening: Happening) -> bool:
        """Return whether the event should have led to this alert; not one from before the automation was there."""
        return (self.created is None or self.created <= happening.occurred) and fires(self.trigger, happening)

    @property
    def waits(self) -> bool:
        """Whether this alert is sent when an event is not followed by another one in time."""
        return waits(self.trigger)

    def is_about(self, happening: Happening) -> bool:
        """Return whether the automation is about the event's resource, whatever the event is called."""
        return matches(self.trigger, happening)

    def awaited(self, history: Iterable[Happening]) -> Awaited | None:
        """Return the event that has to be followed by another one, given all of a resource, the oldest first.

        None if no event is waited for, or if the waiting began before the automation was there.
        """
        found = awaited(self.trigger, history) if self.waits else None
        if found is None or (self.created is not None and found.begun.occurred < self.created):
            return None
        return found

    def posting(self, happening: Happening, run: Mapping[str, Any] | None, page: str) -> Posting:
        """Return the alert that Prefect would have posted."""
        try:
            subject, body = (render(text, self.name, happening, run, page) for text in (self.subject, self.body))
        except Exception:  # noqa: BLE001 - whatever a template of anybody's does
            # It uses what only the server has, as a rule: rather a plain alert than none.
            subject, body = f"{happening.event}: {happening.resource.name or happening.resource.id}", ""
        text, cause = split(body)
        if not body:
            cause = Cause(id=self.cause(happening), occurred=happening.occurred)
        return Posting(Alert.of(subject, text), cause, self.block)

    def cause(self, happening: Happening) -> str:
        """Return the cause's id, as our templates write it."""
        return f"{happening.id}/{self.name}"


def on_server(automations: Sequence[Mapping[str, Any]], blocks: Mapping[str, str]) -> list[SendingAutomation]:
    """Return those of a server's automations that are enabled; `blocks` has the names of our blocks by their ids."""
    return [
        SendingAutomation(
            one["name"],
            one["trigger"],
            blocks[action["block_document_id"]],
            action.get("subject") or "",
            action.get("body") or "",
            datetime.fromisoformat(one["created"]) if one.get("created") else None,
        )
        for one in automations
        if one.get("enabled", True)
        for action in one.get("actions", [])
        if action.get("type") == _SEND and action.get("block_document_id") in blocks
    ]


def in_files(folder: Path) -> list[SendingAutomation]:
    """Return the automations that a folder's files describe, for when no server can be asked."""
    names = {f"{_SLUG}/{name}": name for name in (ALERTS, FALLBACK)}
    return [
        SendingAutomation(
            one["name"], one["trigger"], names[action["block"]], action.get("subject") or "", action.get("body") or ""
        )
        for one in _documents(folder)
        if one.get("enabled", True)
        for action in one.get("actions", [])
        if action.get("type") == _SEND and action.get("block") in names
    ]


def _documents(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # `apply` says what is wrong with it
        if isinstance(document, dict) and "trigger" in document:
            yield cast("dict[str, Any]", document)
