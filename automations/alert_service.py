"""Interface of alert delivery for the sensor.

Of the other modules here, `sensors` imports only `as_code.drift` and `sqlite_file`.

The sensor's process runs the `Dispatcher`, and the server's process has the notification block, which posts into the
same outbox. While the dispatcher reports that it is running, the block leaves the delivery to it; otherwise the block
delivers itself.
"""

import logging
from collections.abc import Mapping
from typing import Any

from automations.delivery.channels import ALERTS, FALLBACK, Policy
from automations.delivery.direct import DirectSender, direct_sender
from automations.delivery.dispatcher import (
    AlertService,
    Dispatcher,
    FailingChannel,
    read_open_troubles,
    read_undelivered,
)
from automations.delivery.enqueue import EnqueueResult, NewAlert
from automations.delivery.events import (
    PrefectEvent,
    Resource,
    SendingAutomation,
    in_files,
    on_server,
    server_back,
    server_silent,
)
from automations.delivery.models import Alert, AlertMetadata, Unless
from automations.delivery.outbox import OutboxError
from automations.errors import ConfigurationError
from automations.settings import PROJECT_ROOT, AlertSettings, read_settings

__all__ = [
    "ALERTS",
    "FALLBACK",
    "Alert",
    "AlertMetadata",
    "AlertService",
    "AlertSettings",
    "ConfigurationError",
    "DirectSender",
    "Dispatcher",
    "EnqueueResult",
    "FailingChannel",
    "NewAlert",
    "OutboxError",
    "Policy",
    "PrefectEvent",
    "Resource",
    "SendingAutomation",
    "Unless",
    "automations_in_files",
    "automations_on_server",
    "direct_sender",
    "open_dispatcher",
    "policy_of_blocks",
    "read_alarm_settings",
    "read_open_troubles",
    "read_undelivered",
    "server_back",
    "server_silent",
]

logger = logging.getLogger(__name__)

automations_on_server = on_server
read_alarm_settings = read_settings


def policy_of_blocks(alerts: Mapping[str, Any], fallback: Mapping[str, Any]) -> Policy | None:
    """Return the policy that our two blocks hold, secrets included; None if it cannot be read."""
    defaults = {name: str(field.default) for name, field in AlertSettings.model_fields.items()}
    try:
        return Policy.read(
            urls=alerts.get("urls") or "",
            fallback_urls=fallback.get("urls") or "",
            routes=alerts.get("routes") or "",
            storm=alerts.get("storm") or defaults["notify_storm"],
            silence=alerts.get("silence") or "",
            silence_except=alerts.get("silence_except") or "",
        )
    except ValueError as error:
        logger.warning("the notification block cannot be read: %s", error)
        return None


def open_dispatcher(settings: AlertSettings) -> Dispatcher:
    """Open the dispatcher of an installation; raises OutboxError."""
    return Dispatcher(settings.outbox, settings.alert_log, settings.policy)


def automations_in_files() -> list[SendingAutomation]:
    """Return this project's automations that send alerts, read from their files."""
    return in_files(PROJECT_ROOT / "automations")
