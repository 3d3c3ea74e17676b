"""Sample alerts, one of each kind, to see what they look like and whether they arrive."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from automations.delivery import rate_limit
from automations.delivery.channels import ALERTS, Policy
from automations.delivery.enqueue import NewAlert
from automations.delivery.events import PrefectEvent, Resource, SendingAutomation, server_back, server_silent
from automations.delivery.models import Alert, AlertMetadata
from automations.delivery.rate_limit import Gathered, Gathering, GatherReason
from automations.delivery.send import deliver

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
        ],
        payload={
            "subject": f"Sample of {automation.name}: {event}",
            "text": "Reason: this is a test",
            "inbox": "metrics",
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
