"""Alerts that wait for an event that may make them unnecessary, and the deletion of old alerts."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

from automations.delivery.channels import Policy
from automations.delivery.enqueue import release_alert, settle
from automations.delivery.models import AlertState, Unless
from automations.delivery.outbox import Outbox, stamp

ENOUGH_ATTEMPTS = 100


def release_waiting(outbox: Outbox, policy: Policy, has_come: Callable[[Unless], bool], now: datetime) -> None:
    """Cancel each alert whose event has come since, and release the others when they have waited long enough.

    `has_come` returns whether the event has come. Raises what `has_come` raises, and sqlite3.Error.
    """
    for row in outbox.rows("SELECT * FROM alerts WHERE state = 'waiting'"):
        if has_come(Unless.model_validate_json(row["unless"])):
            _cancel(outbox, row["cause"])
        elif now >= datetime.fromisoformat(row["wait_until"]):
            release(outbox, row["cause"], policy, now)


def release_overdue(outbox: Outbox, policy: Policy, now: datetime, patience: timedelta) -> None:
    """Release alerts that have waited too long while no server could say whether their event has come."""
    for row in outbox.rows(
        "SELECT cause FROM alerts WHERE state = 'waiting' AND wait_until <= ?", (stamp(now - patience),)
    ):
        release(outbox, row["cause"], policy, now)


def release(outbox: Outbox, cause: str, policy: Policy, now: datetime) -> None:
    """Release a waiting alert, for delivery or for a digest."""
    with outbox.transaction():
        rows = outbox.rows("SELECT * FROM alerts WHERE cause = ? AND state = 'waiting'", (cause,))
        for row in rows:
            tags = json.loads(row["tags"])
            state = settle(outbox, row["group_name"], tags, policy, now)
            if state is AlertState.PENDING:
                release_alert(outbox, cause, policy.channels(row["block"], tags), now)
            else:
                outbox.change("UPDATE alerts SET state = ? WHERE cause = ?", (state, cause))


def _cancel(outbox: Outbox, cause: str) -> None:
    with outbox.transaction():
        outbox.change("UPDATE alerts SET state = 'cancelled' WHERE cause = ? AND state = 'waiting'", (cause,))
        outbox.change("DELETE FROM troubles WHERE cause = ?", (cause,))


def forget_old(outbox: Outbox, before: datetime) -> int:
    """Delete alerts posted before a time that are over or could not be delivered; return how many.

    An undelivered alert with few attempts stays: its time may come from a clock that was not set yet.
    """
    with outbox.transaction():
        return outbox.change(
            "DELETE FROM alerts WHERE posted_at < ? AND (state IN ('delivered', 'summed up', 'cancelled')"
            " OR EXISTS (SELECT 1 FROM deliveries d WHERE d.cause = alerts.cause AND d.attempts >= ?))",
            (stamp(before), ENOUGH_ATTEMPTS),
        )
