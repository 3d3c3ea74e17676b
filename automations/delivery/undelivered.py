"""What has not got through: for whoever looks at the installation, whether or not its bell is at work."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from automations.delivery.escalation import FailingChannel, failing_channels
from automations.delivery.outbox import Outbox


@dataclass(frozen=True)
class Undelivered:
    """The alerts that nobody has, and the channels that do not take theirs."""

    alerts: int = 0
    oldest_subject: str = ""
    oldest_at: datetime | None = None
    channels: tuple[FailingChannel, ...] = ()
    perhaps: int = 0
    """How many alerts were sent without an answer that says whether they were taken."""
    perhaps_subject: str = ""
    perhaps_at: datetime | None = None


def read_open_troubles(path: Path, prefix: str) -> dict[str, str]:
    """Return the troubles of which someone was sent the beginning and not the end: the alerts' subjects by their keys.

    Only keys that begin with `prefix`. Raises OutboxError, sqlite3.Error.
    """
    if not path.exists():
        return {}
    with Outbox(path) as outbox:
        rows = outbox.rows("SELECT key, subject FROM troubles JOIN alerts USING (cause)")
    return {row["key"]: row["subject"] for row in rows if row["key"].startswith(prefix)}


def read_undelivered(path: Path) -> Undelivered:
    """Read an outbox; one that is not there has nothing. Raises OutboxError, sqlite3.Error."""
    if not path.exists():
        return Undelivered()
    with Outbox(path) as outbox:
        rows = outbox.rows(
            "SELECT subject, posted_at, min(d.perhaps_at) AS perhaps FROM alerts a LEFT JOIN deliveries d USING (cause)"
            " WHERE a.state = 'pending' AND a.delivered_at IS NULL GROUP BY cause ORDER BY posted_at"
        )
        channels = tuple(failing_channels(outbox, datetime.now(UTC)))
    waiting = [row for row in rows if row["perhaps"] is None]
    perhaps = [row for row in rows if row["perhaps"] is not None]
    return Undelivered(
        len(waiting),
        waiting[0]["subject"] if waiting else "",
        datetime.fromisoformat(waiting[0]["posted_at"]) if waiting else None,
        channels,
        len(perhaps),
        perhaps[0]["subject"] if perhaps else "",
        datetime.fromisoformat(perhaps[0]["perhaps"]) if perhaps else None,
    )
