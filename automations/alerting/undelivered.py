"""What has not got through: for whoever looks at the installation, whether or not its bell is at work."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from automations.alerting.escalation import FailingChannel, failing_channels
from automations.alerting.outbox import Outbox


@dataclass(frozen=True)
class Undelivered:
    """The alerts that nobody has, and the channels that do not take theirs."""

    alerts: int = 0
    oldest_subject: str = ""
    oldest_at: datetime | None = None
    channels: tuple[FailingChannel, ...] = ()


def read_undelivered(path: Path) -> Undelivered:
    """Read an outbox; one that is not there has nothing. Raises OutboxError, sqlite3.Error."""
    if not path.exists():
        return Undelivered()
    with Outbox(path) as outbox:
        rows = outbox.rows(
            "SELECT subject, posted_at FROM alerts WHERE state = 'pending' AND delivered_at IS NULL ORDER BY posted_at"
        )
        channels = tuple(failing_channels(outbox, datetime.now(UTC)))
    if not rows:
        return Undelivered(channels=channels)
    return Undelivered(len(rows), rows[0]["subject"], datetime.fromisoformat(rows[0]["posted_at"]), channels)
