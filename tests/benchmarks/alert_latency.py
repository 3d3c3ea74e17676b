"""How long from a run's failure to its notification, next to Prefect as it comes: `just bench`.

Both on one server, in turns: a run of our deployment fails, then a run of another deployment whose automation sends
straight through one of Prefect's own notification blocks. What is measured is the time from the state's timestamp to
the moment at which the receiver has the message; all on one machine, with one clock.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.journeys.stack import CREDENTIALS, DEPLOYMENT, FLOW, Stack, wait_until
from tests.receiver import Receiver, receiving

ROUNDS = 20
STOCK = "stock"
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Measure, print a table, and write the figures down."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder, receiving() as receiver:
        stack = Stack(Path(folder) / "state", NOTIFY_URLS=receiver.url())
        stack.state_dir.mkdir()
        stack.start()
        try:
            add_stock(stack, receiver)
            seconds: dict[str, list[float]] = {DEPLOYMENT: [], STOCK: []}
            for _ in track(range(rounds), "failing runs", transient=True):
                for deployment, found in seconds.items():
                    found.append(latency(stack, receiver, deployment))
        finally:
            stack.stop()
    show(seconds)
    write(seconds)


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


def p95(seconds: Sequence[float]) -> float:
    """Return the time that one in twenty exceeds."""
    return sorted(seconds)[max(0, round(0.95 * len(seconds)) - 1)]


def show(seconds: dict[str, list[float]]) -> None:
    """Print the figures side by side."""
    names = {DEPLOYMENT: "ours: outbox and bell", STOCK: "Prefect's own block"}
    table = Table("Failed to delivered", "p50", "p95", "longest", title=machine())
    for deployment, found in seconds.items():
        figures = (statistics.median(found), p95(found), max(found))
        table.add_row(names[deployment], *(f"{one:.2f} s" for one in figures))
    Console().print(table)


def write(seconds: dict[str, list[float]]) -> None:
    """Write the figures into this release's file."""
    RESULTS.mkdir(exist_ok=True)
    document = {
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "failed_to_delivered_seconds": seconds,
    }
    (RESULTS / "alert_latency.json").write_text(json.dumps(document, indent=1) + "\n")


def machine() -> str:
    """Describe this machine."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
