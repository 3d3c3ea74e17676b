"""Part `alert`: how long from a run's failure to its notification, next to Prefect's own block.

Both on one server, in turns: a run of our deployment fails, then a run of another deployment whose automation sends
straight through one of Prefect's own notification blocks. What is measured is the time from the state's timestamp to
the moment at which the receiver has the message; all on one machine, with one clock.
"""

import json
from datetime import UTC, datetime

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import BaseModel
from rich.progress import track

from tests.benchmarks.options import Options
from tests.benchmarks.part import Figure, Grid, Part, console, median, p95
from tests.journeys.stack import CREDENTIALS, DEPLOYMENT, FLOW, Stack, wait_until
from tests.receiver import Receiver, receiving

STOCK = "stock"
NAMES = {DEPLOYMENT: "ours: outbox and bell", STOCK: "Prefect's own block"}
"""What sends, by the deployment whose run fails."""


class AlertSamples(BaseModel):
    """The seconds of all messages, by the deployment whose run has failed."""

    seconds: dict[str, list[float]]


def measure(options: Options) -> AlertSamples:
    """Have runs of the two deployments fail in turns."""
    with options.folder() as folder, receiving() as receiver:
        # The journeys' setting of NOTIFY_STORM stays: a failure every second is a storm, which ours would sum up.
        stack = Stack(folder / "state", NOTIFY_URLS=receiver.url())
        stack.state_dir.mkdir()
        stack.start()
        try:
            add_stock(stack, receiver)
            seconds: dict[str, list[float]] = {DEPLOYMENT: [], STOCK: []}
            for _ in track(range(options.alerts), "failing runs", transient=True, console=console):
                for deployment, found in seconds.items():
                    found.append(latency(stack, receiver, deployment))
        finally:
            stack.stop()
    return AlertSamples(seconds=seconds)


def add_stock(stack: Stack, receiver: Receiver) -> None:
    """Put a deployment on the server whose failures Prefect itself tells of."""
    url = str(stack.api.base_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: CREDENTIALS}):
        block = CustomWebhookNotificationBlock(
            name=STOCK,
            url=receiver.page("/stock"),
            method="POST",
            json_data={"title": "{{subject}}", "message": "{{body}}"},
        )
        block_id = block.save(STOCK)
        with get_client(sync_client=True) as client:
            flow = client.read_flow_by_name(FLOW)
            client.create_deployment(flow_id=flow.id, name=STOCK)
            ours = next(one for one in client.read_automations() if one.name == "alert-on-failure")
            fields = json.loads(ours.model_dump_json(include={"trigger", "actions"}))
            fields["trigger"]["match_related"][1]["prefect.resource.name"] = STOCK
            fields["actions"][0] = {
                "type": "send-notification",
                "block_document_id": str(block_id),
                "subject": "{{ event.resource['prefect.state-name'] }}",
                "body": "{{ flow_run | ui_url }}",
            }
            client.create_automation(AutomationCore.model_validate({"name": STOCK, **fields}))


def latency(stack: Stack, receiver: Receiver, deployment: str) -> float:
    """Have a run fail, and return the seconds until the receiver has its message."""
    found = stack.api.get(f"/deployments/name/{FLOW}/{deployment}").raise_for_status().json()
    body = {"state": {"type": "PENDING"}}
    run = stack.api.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()["id"]
    for state in ({"type": "RUNNING"}, {"type": "FAILED", "message": "measured"}):
        stack.api.post(f"/flow_runs/{run}/set_state", json={"state": state}).raise_for_status()
    failed = datetime.fromisoformat(stack.run(run)["state"]["timestamp"])
    arrived = wait_until(lambda: arrival(receiver, run), f"the message of {run} came", 60, pause=0.002)
    return (arrived - failed).total_seconds()


def arrival(receiver: Receiver, run: str) -> datetime | None:
    """Return when a message about a run came."""
    return datetime.now(UTC) if receiver.naming(run) else None


def figures(samples: AlertSamples) -> list[Figure]:
    """Return the seconds of both."""
    return [
        Figure(
            name=f"failed to delivered, {NAMES[deployment]}",
            unit="s",
            median=median(seconds),
            p95=p95(seconds),
            is_ours=deployment != STOCK,
        )
        for deployment, seconds in samples.seconds.items()
    ]


def tables(samples: AlertSamples) -> list[Grid]:
    """Return the figures side by side."""
    rows = tuple(
        (NAMES[deployment], *(f"{one:.2f} s" for one in (median(seconds), p95(seconds), max(seconds))))
        for deployment, seconds in samples.seconds.items()
    )
    count = max(map(len, samples.seconds.values()))
    return [Grid(f"Failed to delivered, {count} runs each", ("message of", "p50", "p95", "longest"), rows)]


PART = Part("alert", AlertSamples, measure, figures, tables)
