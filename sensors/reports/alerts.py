"""What the status tells of alerts: which have not got through, and why."""

import sqlite3
from dataclasses import dataclass

from automations.alert_service import OutboxError, read_undelivered
from sensors.config.settings import Settings


@dataclass(frozen=True)
class Alerts:
    """How many alerts nobody has, and what a person should know of it."""

    undelivered: int = 0
    needs_a_person: tuple[str, ...] = ()
    perhaps_delivered: int = 0


def read_alerts(settings: Settings) -> Alerts:
    """Look into the outbox; works while the stack is down."""
    try:
        found = read_undelivered(settings.state_dir / "alerts.db")
    except (OutboxError, sqlite3.Error) as error:
        return Alerts(0, (str(error),))
    lines = [
        f"alerts are not delivered to {one.name} since {one.failing_since.astimezone():%Y-%m-%d %H:%M:%S %Z}, "
        f"{one.waiting} wait: {one.failure}; mend NOTIFY_URLS in .env, then `just apply`"
        for one in found.channels
        if one.waiting > one.perhaps
    ]
    if found.alerts and not lines and found.oldest_at is not None:
        since = f"{found.oldest_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        lines = [f"{found.alerts} alerts are on their way, the oldest since {since}: {found.oldest_subject}"]
    if found.perhaps and found.perhaps_at is not None:
        since = f"{found.perhaps_at.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        lines.append(
            f"{found.perhaps} alerts are perhaps delivered: sent, and no answer came, the oldest at {since}: "
            f"{found.perhaps_subject}; they are sent again after an hour, data/logs/alerts.log says where"
        )
    return Alerts(found.alerts, tuple(lines), found.perhaps)
