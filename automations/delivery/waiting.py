"""Alerts that wait: an event may still come that makes them needless."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta

from automations.delivery.channels import Policy
from automations.delivery.enqueue import settle, tell
from automations.delivery.models import AlertState, Unless
from automations.delivery.outbox import Outbox, stamp

ENOUGH_ATTEMPTS = 100


def step(outbox: Outbox, policy: Policy, has_come: Callable[[Unless], bool], now: datetime) -> None:
    """Cancel each alert whose event has come since, and have the others told when they have waited long enough.

    `has_come` tells whether the event has. Raises what that raises, and sqlite3.Error.
    """
    for row in outbox.rows("SELECT * FROM alerts WHERE state = 'waiting'"):
        if has_come(Unless.model_validate_json(row["unless"])):
            _cancel(outbox, row["cause"])
        elif now >= datetime.fromisoformat(row["wait_until"]):
            release(outbox, row["cause"], policy, now)


def release_overdue(outbox: Outbox, policy: Policy, now: datetime, patience: timedelta) -> None:
    """Have told what has waited too long while nobody could say whether its event has come."""
    for row in outbox.rows(
        "SELECT cause FROM alerts WHERE state = 'waiting' AND wait_until <= ?", (stamp(now - patience),)
    ):
        release(outbox, row["cause"], policy, now)


def release(outbox: Outbox, cause: str, policy: Policy, now: datetime) -> None:
    """Have an alert told that has waited."""
    with outbox.transaction():
        rows = outbox.rows("SELECT * FROM alerts WHERE cause = ? AND state = 'waiting'", (cause,))
        for row in rows:
            tags = json.loads(row["tags"])
            state = settle(outbox, row["group_name"], tags, policy, now)
            if state is AlertState.PENDING:
                tell(outbox, cause, policy.channels(row["block"], tags), now)
            else:
                outbox.change("UPDATE alerts SET state = ? WHERE cause = ?", (state, cause))


def _cancel(outbox: Outbox, cause: str) -> None:
    with outbox.transaction():
        outbox.change("UPDATE alerts SET state = 'cancelled' WHERE cause = ? AND state = 'waiting'", (cause,))
        outbox.change("DELETE FROM troubles WHERE cause = ?", (cause,))


def forget_old(outbox: Outbox, before: datetime) -> int:
    """Delete what was over before a time, or could not be delivered until then; return how many alerts that were.

    What was hardly tried stays: its time may be that of a clock that was not set yet.
    """
    with outbox.transaction():
        return outbox.change(
            "DELETE FROM alerts WHERE posted_at < ? AND (state IN ('delivered', 'summed up', 'cancelled')"
            " OR EXISTS (SELECT 1 FROM deliveries d WHERE d.cause = alerts.cause AND d.attempts >= ?))",
            (stamp(before), ENOUGH_ATTEMPTS),
        )
