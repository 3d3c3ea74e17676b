"""What the server says about alerts: our notification blocks, and the automations that send through them."""

from dataclasses import dataclass
from typing import Any

from automations.alert_service import (
    ALERTS,
    FALLBACK,
    Policy,
    SendingAutomation,
    automations_on_server,
    policy_of_blocks,
)
from sensors.runs.api import PrefectApi

_PAGE = 200


@dataclass(frozen=True)
class ServerAlarm:
    """Who is told, and of what."""

    policy: Policy | None
    """None if the server has no block of ours, or one that cannot be read."""
    automations: list[SendingAutomation]
    outbox: str | None
    """Where the server's block posts its alerts."""


def read_server_alarm(api: PrefectApi) -> ServerAlarm:
    """Ask the server for its blocks and automations. Raises ApiError.

    The server and not our own settings: it has what was applied last, or edited on its page.
    """
    blocks: dict[str, dict[str, Any]] = {
        one["name"]: one
        for one in api.post(
            "/block_documents/filter",
            {"block_types": {"slug": {"any_": ["apprise-alerts"]}}, "include_secrets": True, "limit": _PAGE},
        )
        if one["name"] in {ALERTS, FALLBACK}
    }
    automations: list[dict[str, Any]] = []
    while page := api.post("/automations/filter", {"limit": _PAGE, "offset": len(automations)}):
        automations += page
        if len(page) < _PAGE:
            break
    data = {name: one["data"] for name, one in blocks.items()}
    policy = policy_of_blocks(data[ALERTS], data.get(FALLBACK, {})) if ALERTS in data else None
    sending = automations_on_server(automations, {one["id"]: name for name, one in blocks.items()})
    return ServerAlarm(policy, sending, data.get(ALERTS, {}).get("outbox"))
