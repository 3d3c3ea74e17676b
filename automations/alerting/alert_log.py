"""The local log of alerts: one readable entry per alert, wherever else it went."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from automations.alerting.alert import Alert
from automations.alerting.delivery import Delivery


def entry(alert: Alert, deliveries: Sequence[Delivery], at: datetime) -> str:
    """Return the entry of one alert, with the time `at` shown in the local time zone.

    The subject stands at the margin and everything else is indented, so that no text of an alert can pass
    for the beginning of another entry:

        2026-03-01 09:00:12 CST  Failed: Enterprise Data Pipeline/production-etl, run brave-otter
            Message: 2 of 40 files rejected
            delivered to 1 (Slack)
            NOT delivered to 2 (E-Mail): Connection refused
    """
    local = at.astimezone()
    lines = [f"{local:%Y-%m-%d %H:%M:%S %Z}  {alert.subject}"]
    lines += [f"    {line}" for line in alert.body.splitlines()]
    lines += [f"    {_outcome(delivery)}" for delivery in deliveries]
    if not deliveries:
        lines.append("    delivered nowhere else: no notification URLs are set")
    return "\n".join(lines) + "\n"


def append(path: Path, text: str) -> None:
    """Append the text in one write, so that the entries of several processes do not mix.

    The folder and the file (readable by its owner only) are made if they are missing. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        data = text.encode()
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written to {path}")
    finally:
        os.close(descriptor)


def _outcome(delivery: Delivery) -> str:
    if delivery.delivered:
        return f"delivered to {delivery.channel}"
    return f"NOT delivered to {delivery.channel}: {delivery.failure}"
