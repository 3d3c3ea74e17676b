"""Escalation: an alert that the primary channels do not take goes to the fallback as well, and Prefect is told."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automations.delivery.channels import FALLBACK, Policy
from automations.delivery.enqueue import address
from automations.delivery.outbox import Outbox, stamp

FALLBACK_AFTER = timedelta(seconds=30)
"""How long the primary channels are tried alone."""
PRIMARY_FOR = timedelta(days=1)
"""How long the primary channels are tried when the fallback has the alert."""


@dataclass(frozen=True)
class FailingChannel:
    """A channel that does not take what is to be delivered."""

    channel: str
    name: str
    failure: str
    failing_since: datetime
    waiting: int
    """How many alerts wait for it."""
    perhaps: int = 0
    """How many of them it has perhaps taken."""


def step(outbox: Outbox, policy: Policy, now: datetime) -> int:
    """Give the fallback what has not got through for a while; return how many alerts that were."""
    _give_up_primaries(outbox, now)
    channels = policy.fallback_channels
    if not (channels and outbox.rows("SELECT 1 FROM channels LIMIT 1")):
        return 0
    with outbox.transaction():
        stuck = outbox.rows(
            "SELECT cause FROM alerts a WHERE state = 'pending' AND delivered_at IS NULL AND block <> ?"
            " AND EXISTS (SELECT 1 FROM deliveries WHERE cause = a.cause AND state <> 'delivered'"
            "   AND failure IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE cause = a.cause AND is_fallback)"
            " AND told_at <= ?",
            (FALLBACK, stamp(now - FALLBACK_AFTER)),
        )
        for row in stuck:
            address(outbox, row["cause"], channels, now, is_fallback=True)
    return len(stuck)


def _give_up_primaries(outbox: Outbox, now: datetime) -> None:
    long_ago = (stamp(now - PRIMARY_FOR),)
    if outbox.rows("SELECT 1 FROM alerts WHERE state = 'pending' AND delivered_at < ? LIMIT 1", long_ago):
        with outbox.transaction():
            outbox.change(
                "UPDATE alerts SET state = 'delivered' WHERE state = 'pending' AND delivered_at < ?", long_ago
            )


def failing_channels(outbox: Outbox, now: datetime, *, untold: bool = False) -> list[FailingChannel]:
    """Return the channels for which alerts have waited a while, or those of them of which Prefect was not told yet."""
    rows = outbox.rows(
        "SELECT c.*, count(a.cause) AS waiting, count(CASE WHEN a.cause IS NOT NULL THEN d.perhaps_at END) AS perhaps"
        " FROM channels c LEFT JOIN deliveries d ON d.channel = c.channel AND d.state <> 'delivered'"
        " LEFT JOIN alerts a ON a.cause = d.cause AND a.state = 'pending'"
        f" WHERE failing_since <= ?{' AND c.told_at IS NULL' if untold else ''}"
        " GROUP BY c.channel ORDER BY failing_since",
        (stamp(now - FALLBACK_AFTER),),
    )
    return [
        FailingChannel(
            row["channel"],
            row["name"],
            row["failure"],
            datetime.fromisoformat(row["failing_since"]),
            row["waiting"],
            row["perhaps"],
        )
        for row in rows
        if row["waiting"]
    ]


def record_told(outbox: Outbox, channel: str, now: datetime) -> None:
    """Write down that Prefect knows of a failing channel."""
    with outbox.transaction():
        outbox.change("UPDATE channels SET told_at = ? WHERE channel = ?", (stamp(now), channel))


# What has not got through: for whoever looks at the installation, whether or not its bell is at work.


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
