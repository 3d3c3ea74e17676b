"""Escalation: send alerts that the primary channels do not take to the fallback, and report what is undelivered."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from automations.delivery.channels import FALLBACK, Policy
from automations.delivery.enqueue import address
from automations.delivery.outbox import Outbox, stamp

FALLBACK_AFTER = timedelta(seconds=30)
"""How long only the primary channels are tried."""
PRIMARY_FOR = timedelta(days=1)
"""How long the primary channels are still tried once the fallback has the alert."""


@dataclass(frozen=True)
class FailingChannel:
    """A channel that does not take its alerts."""

    channel: str
    name: str
    failure: str
    failing_since: datetime
    waiting: int
    """How many alerts wait for it."""
    perhaps: int = 0
    """How many of them it may have received, since they were sent without an answer."""


def step(outbox: Outbox, policy: Policy, now: datetime) -> int:
    """Send alerts that failed and are still undelivered after a while to the fallback; return how many."""
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
    """Return the channels that have failed for a while and for which alerts wait.

    With `untold`, only those that were not reported to Prefect yet.
    """
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


def record_reported(outbox: Outbox, channel: str, now: datetime) -> None:
    """Record that a failing channel was reported to Prefect."""
    with outbox.transaction():
        outbox.change("UPDATE channels SET told_at = ? WHERE channel = ?", (stamp(now), channel))


# What is undelivered, for status displays; readable whether or not the dispatcher is running.


@dataclass(frozen=True)
class Undelivered:
    """The alerts that no channel has taken, and the channels that fail."""

    alerts: int = 0
    oldest_subject: str = ""
    oldest_at: datetime | None = None
    channels: tuple[FailingChannel, ...] = ()
    perhaps: int = 0
    """How many alerts were sent without an answer that says whether they were taken."""
    perhaps_subject: str = ""
    perhaps_at: datetime | None = None


def read_open_troubles(path: Path, prefix: str) -> dict[str, str]:
    """Return the reported incidents that are not over: the alerts' subjects by the incidents' keys.

    Only keys that begin with `prefix`. Raises OutboxError, sqlite3.Error.
    """
    if not path.exists():
        return {}
    with Outbox(path) as outbox:
        rows = outbox.rows("SELECT key, subject FROM troubles JOIN alerts USING (cause)")
    return {row["key"]: row["subject"] for row in rows if row["key"].startswith(prefix)}


def read_undelivered(path: Path) -> Undelivered:
    """Read an outbox; if it does not exist, nothing is undelivered. Raises OutboxError, sqlite3.Error."""
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
