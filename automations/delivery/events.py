"""Prefect events and the alerts of automations, evaluated in the sensor as Prefect's server would.

The sensor uses it to send alerts that the server missed. Automations come from the server's API, or from their YAML
files when no server is reachable.

The rules for which events fire a trigger are those of `EventTrigger.covers` in
`prefect.server.events.schemas.automations`. The sensor cannot use that module, since it imports the whole server;
tests/automations/delivery/test_trigger.py compares the two. Triggers that count events or combine others are not
supported.
"""

import fnmatch
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml
from jinja2 import ChainableUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from automations.delivery import rate_limit
from automations.delivery.channels import ALERTS, FALLBACK, Policy
from automations.delivery.enqueue import NewAlert
from automations.delivery.models import Alert, AlertMetadata, split, with_metadata
from automations.delivery.rate_limit import Gathered, Gathering, GatherReason
from automations.delivery.send import deliver


class Resource(dict[str, str]):
    """The labels of a resource, with its id and name as attributes for templates, as in Prefect's own events."""

    @property
    def id(self) -> str:
        """The resource's id, such as `prefect.flow-run.<uuid>`."""
        return self.get("prefect.resource.id", "")

    @property
    def name(self) -> str | None:
        return self.get("prefect.resource.name")

    @property
    def role(self) -> str:
        return self.get("prefect.resource.role", "")


@dataclass(frozen=True)
class PrefectEvent:
    """An event with the attributes that templates read from Prefect's events."""

    id: str
    event: str
    occurred: datetime
    resource: Resource
    related: Sequence[Resource] = ()
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def resource_in_role(self) -> dict[str, Resource]:
        """The first related resource of each role."""
        return {role: ones[0] for role, ones in self.resources_in_role.items()}

    @property
    def resources_in_role(self) -> dict[str, list[Resource]]:
        """The related resources of each role."""
        found: dict[str, list[Resource]] = {}
        for one in self.related:
            found.setdefault(one.role, []).append(one)
        return found


@dataclass(frozen=True)
class AwaitedEvent:
    """An event that another event must follow, and the deadline for that."""

    begun: PrefectEvent
    until: datetime


def fires(trigger: Mapping[str, Any], happening: PrefectEvent) -> bool:
    """Return whether each such event fires the trigger.

    False for every trigger that counts events, waits for the absence of events, or combines other triggers.
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


def awaited(trigger: Mapping[str, Any], history: Iterable[PrefectEvent]) -> AwaitedEvent | None:
    """Return the event that has to be followed by another one, given all events of one resource, the oldest first."""
    begun: PrefectEvent | None = None
    for happening in history:
        if not matches(trigger, happening):
            continue
        if _expects(trigger.get("expect"), happening.event):
            begun = None
        elif begun is None and _expects(trigger["after"], happening.event):
            begun = happening
    return (
        None if begun is None else AwaitedEvent(begun, begun.occurred + timedelta(seconds=trigger.get("within") or 0))
    )


def matches(trigger: Mapping[str, Any], happening: PrefectEvent) -> bool:
    """Return whether an event's resources match the trigger, whatever the event's name is."""
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


def render(template: str, automation: str, happening: PrefectEvent, run: Mapping[str, Any] | None, page: str) -> str:
    """Render a template for an event, as Prefect's server does.

    `run` is the event's flow run, as the API returns it, and `page` the URL of Prefect's UI. Raises
    jinja2.TemplateError for a template that uses something only the server has.
    """
    environment = ImmutableSandboxedEnvironment(undefined=ChainableUndefined)

    def ui_url(thing: Mapping[str, Any] | None) -> str | None:
        return f"{page}/runs/flow-run/{thing['id']}" if thing else None

    environment.filters.update(cast("dict[str, Any]", {"ui_url": ui_url}))
    return environment.from_string(template).render(
        event=happening, automation=SimpleNamespace(name=automation), flow_run=None if run is None else _with_times(run)
    )


def _with_times(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if name.endswith("_time") and isinstance(value, str) else value
        for name, value in run.items()
    }


_SLUG = "apprise-alerts"
_SEND = "send-notification"


@dataclass(frozen=True)
class SendingAutomation:
    """One notification of one automation that sends through our blocks."""

    name: str
    trigger: Mapping[str, Any]
    block: str
    subject: str
    body: str
    created: datetime | None = None

    def concerns(self, happening: PrefectEvent) -> bool:
        """Return whether the event should have led to this alert; False if the event is older than the automation."""
        return (self.created is None or self.created <= happening.occurred) and fires(self.trigger, happening)

    @property
    def waits(self) -> bool:
        """Whether this alert is sent when an event is not followed by another one in time."""
        return waits(self.trigger)

    def is_about(self, happening: PrefectEvent) -> bool:
        """Return whether the event's resources match the automation, whatever the event's name is."""
        return matches(self.trigger, happening)

    def awaited(self, history: Iterable[PrefectEvent]) -> AwaitedEvent | None:
        """Return the event that has to be followed by another one, given all events of a resource, the oldest first.

        None if no event is waited for, or if the wait began before the automation existed.
        """
        found = awaited(self.trigger, history) if self.waits else None
        if found is None or (self.created is not None and found.begun.occurred < self.created):
            return None
        return found

    def posting(self, happening: PrefectEvent, run: Mapping[str, Any] | None, page: str) -> NewAlert:
        """Return the alert that Prefect would have posted."""
        try:
            subject, body = (render(text, self.name, happening, run, page) for text in (self.subject, self.body))
        except Exception:  # noqa: BLE001 - a template may raise anything
            # It usually uses something only the server has; a plain alert is better than none.
            subject, body = f"{happening.event}: {happening.resource.name or happening.resource.id}", ""
        text, cause = split(body)
        if not body:
            cause = AlertMetadata(id=self.cause(happening), occurred=happening.occurred)
        return NewAlert(Alert.of(subject, text), cause, self.block)

    def cause(self, happening: PrefectEvent) -> str:
        """Return the id of the cause, as our templates write it."""
        return f"{happening.id}/{self.name}"


def on_server(automations: Sequence[Mapping[str, Any]], blocks: Mapping[str, str]) -> list[SendingAutomation]:
    """Return the enabled automations of a server that use our blocks; `blocks` has the blocks' names by their ids."""
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
    """Return the automations that a folder's files describe, for when no server is reachable."""
    names = {f"{_SLUG}/{name}": name for name in (ALERTS, FALLBACK)}
    return [
        SendingAutomation(
            one["name"], one["trigger"], names[action["block"]], action.get("subject") or "", action.get("body") or ""
        )
        for one in _documents(folder)
        if one.get("enabled", True)
        for action in (with_metadata(action, one["trigger"]) for action in one.get("actions", []))
        if action.get("type") == _SEND and action.get("block") in names
    ]


def _documents(folder: Path) -> Iterable[dict[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        try:
            document = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue  # `apply` reports what is wrong with it
        if isinstance(document, dict) and "trigger" in document:
            yield cast("dict[str, Any]", document)


# The two alerts that no automation can send: the server is silent, and it is back.


def server_silent(url: str, since: datetime, why: str, now: datetime) -> NewAlert:
    """Return the alert for a server that has not answered for a while."""
    lines = [
        f"Server: {url}",
        f"Since: {since.astimezone():%Y-%m-%d %H:%M:%S %Z}",
        f"Reason: {why:.300}",
        "Meanwhile: files are taken and wait, none is lost; nothing runs",
        "Next: `just status`; data/logs/server.log says why",
    ]
    cause = AlertMetadata(id=f"server-silent/{url}/{now.isoformat()}", kind="server-silent", opens=_trouble(url))
    return NewAlert(Alert.of("The Prefect server is silent", "\n".join(lines)), cause, ALERTS)


def server_back(url: str, now: datetime) -> NewAlert:
    """Return the alert for a server that answers again, sent only if the alert about its silence was sent."""
    alert = Alert.of("The Prefect server answers again", f"Server: {url}\nWhat has waited goes on now.")
    cause = AlertMetadata(
        id=f"server-back/{url}/{now.isoformat()}", kind="server-back", type="success", ends=_trouble(url)
    )
    return NewAlert(alert, cause, ALERTS)


def _trouble(url: str) -> str:
    return f"server-silent/{url}"


# Sample alerts, one of each kind, to see what they look like and whether they arrive.

_RUN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class SampleResult:
    """One sample on one channel, and why it did not arrive."""

    kind: str
    subject: str
    channel: str
    failure: str | None


def samples(automations: list[SendingAutomation], now: datetime, page: str) -> list[NewAlert]:
    """Return a sample of each automation's alert and of the alerts that the sensor makes itself, marked as tests."""
    made = [one.posting(_happening(one, event, now), _run(now), page) for one in automations for event in _events(one)]
    made += [
        server_silent(page, now, "this is a test", now),
        server_back(page, now),
        NewAlert(rate_limit.digest(_gathering(now), _gathered()), AlertMetadata(kind="digest"), ALERTS),
        NewAlert(
            rate_limit.calm(_gathering(now), rate_limit.StormLimit()),
            AlertMetadata(kind="digest", type="success"),
            ALERTS,
        ),
    ]
    return [replace(one, alert=Alert.of(f"[test] {one.alert.subject}", one.alert.body)) for one in made]


def send(postings: list[NewAlert], policy: Policy) -> Iterator[SampleResult]:
    """Send each sample to the channels that a real alert would go to; nothing is recorded."""
    for one in postings:
        channels = policy.channels(one.block, one.cause.all_tags)
        deliveries = deliver(one.alert, [channel.url for channel in channels], one.cause.type)
        for channel, delivery in zip(channels, deliveries, strict=True):
            yield SampleResult(one.cause.kind, one.alert.subject, channel.name, delivery.failure)
        if not channels:
            yield SampleResult(one.cause.kind, one.alert.subject, "the log of alerts only", None)


def _events(automation: SendingAutomation) -> list[str]:
    trigger = automation.trigger
    events: list[str] = trigger.get("after") or trigger.get("expect") or ["sample"]
    return [event.replace(".*", ".Failed") for event in events]


def _happening(automation: SendingAutomation, event: str, now: datetime) -> PrefectEvent:
    match: dict[str, Any] = automation.trigger.get("match") or {}
    resource = str(match.get("prefect.resource.id", "sample.*")).replace("*", _RUN)
    is_of_a_run = not resource.startswith(("inbox.", "sensor.", "alert.", "prefect.work-pool."))
    return PrefectEvent(
        id=str(uuid.uuid4()),
        event=event,
        occurred=now,
        resource=Resource(
            {
                "prefect.resource.id": resource,
                "prefect.resource.name": "sample",
                "prefect.state-name": "Failed",
                "prefect.state-type": "FAILED",
                "prefect.state-message": "this is a test",
            }
        ),
        related=[
            _related("flow", "Enterprise Data Pipeline"),
            _related("deployment", "production-etl"),
            Resource({"prefect.resource.id": "prefect.tag.env:prod", "prefect.resource.role": "tag"}),
        ]
        if is_of_a_run
        else [],
        payload={
            "subject": f"Sample of {automation.name}: {event}",
            "text": "Reason: this is a test",
            **({"inbox": "metrics"} if resource.startswith("inbox.") else {}),
            "since": f"{now.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            "reason": "this is a test",
            "waiting": 1,
        },
    )


def _related(role: str, name: str) -> Resource:
    return Resource(
        {
            "prefect.resource.id": f"prefect.{role}.{_RUN}",
            "prefect.resource.role": role,
            "prefect.resource.name": name,
        }
    )


def _run(now: datetime) -> dict[str, Any]:
    return {
        "id": _RUN,
        "name": "sample",
        "parameters": {"source_url": "file:///orders.csv"},
        "state_name": "Failed",
        "state_type": "FAILED",
        "work_pool_name": "local-process-pool",
        "expected_start_time": now.isoformat(),
        "start_time": now.isoformat(),
    }


def _gathering(now: datetime) -> Gathering:
    return Gathering(
        "Enterprise Data Pipeline/production-etl", GatherReason.STORM, now - timedelta(minutes=10), now, 1, 40
    )


def _gathered() -> list[Gathered]:
    return [Gathered(str(number), "run-failed", f"Failed: sample, run {number}", ()) for number in range(1, 41)]
