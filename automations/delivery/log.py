"""Local log of alerts: one readable entry per alert, wherever else it is sent."""

import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from automations.delivery.channels import Policy
from automations.delivery.enqueue import EnqueueResult, NewAlert
from automations.delivery.models import Alert
from automations.delivery.send import Delivery

logger = logging.getLogger(__name__)


def entry(alert: Alert, notes: Sequence[str], at: datetime) -> str:
    """Return the entry of one alert, with the time `at` shown in the local time zone.

    The subject starts at the margin and everything else is indented, so that no text of an alert can pass
    for the beginning of another entry:

        2026-03-01 09:00:12 CST  Failed: Enterprise Data Pipeline/production-etl, run brave-otter
            Message: 2 of 40 files rejected
            delivered to 1 (Slack)
            NOT delivered to 2 (E-Mail): Connection refused
    """
    lines = [f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}  {alert.subject}"]
    lines += [f"    {line}" for line in alert.body.splitlines()]
    lines += [f"    {note}" for note in notes]
    return "\n".join(lines) + "\n"


def outcomes(deliveries: Sequence[Delivery]) -> list[str]:
    """Return the notes about the deliveries of one alert."""
    if not deliveries:
        return ["delivered nowhere else: no notification URLs are set"]
    return [
        f"delivered to {one.channel}" if one.delivered else f"NOT delivered to {one.channel}: {one.failure}"
        for one in deliveries
    ]


def record(path: Path | None, posting: NewAlert, posted: EnqueueResult, policy: Policy, at: datetime) -> None:
    """Append the entry of a posted alert and where it goes; nothing for one that is known or cancelled."""
    match posted:
        case EnqueueResult.KNOWN | EnqueueResult.CANCELLED:
            return
        case EnqueueResult.WAITING:
            where = "waits a little: it may turn out to be over already"
        case EnqueueResult.GATHERED:
            where = "is gathered: a digest reports it"
        case EnqueueResult.PENDING:
            names = [one.name for one in policy.channels(posting.block, posting.cause.all_tags)]
            where = f"goes to {', '.join(names)}" if names else outcomes([])[0]
    if path is not None:
        append_or_warn(path, entry(posting.alert, [where], at))


def note(path: Path | None, text: str, at: datetime) -> None:
    """Append one line about an alert that has its entry; a failure to write is only a warning."""
    if path is not None:
        append_or_warn(path, f"{at.astimezone():%Y-%m-%d %H:%M:%S %Z}  {' '.join(text.split())}\n")


def append_or_warn(path: Path, text: str) -> None:
    """Append the text as `append` does, but log a warning if that fails."""
    try:
        append(path, text)
    except OSError as error:
        logger.warning("the alert log %s: %s", path, error)


def append(path: Path, text: str) -> None:
    """Append the text in one write, so that the entries of several processes do not mix.

    The folder and the file (readable by its owner only) are created if they are missing. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        data = text.encode()
        written = os.write(descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written to {path}")
    finally:
        os.close(descriptor)
