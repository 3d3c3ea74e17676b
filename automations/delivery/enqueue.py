"""Write alerts to the outbox, once per cause: for delivery to their channels, or held back for a digest.

A gathering holds back the alerts of one group, because of the rate limit or quiet hours, until a digest reports them.
An incident (table `troubles`) is open from the alert that reports a problem to the alert that ends it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from automations.delivery.channels import FALLBACK, Channel, Policy
from automations.delivery.models import Alert, AlertMetadata, AlertState, DeliveryState
from automations.delivery.outbox import Outbox, sent_record
from automations.delivery.rate_limit import Gathered, Gathering, GatherReason, joins
from automations.sqlite_file import stamp


def read(outbox: Outbox, group: str) -> Gathering | None:
    """Return the open gathering of a group, or None."""
    found = _read(outbox, "group_name = ?", group)
    return found[0] if found else None


def due(outbox: Outbox, now: datetime) -> list[Gathering]:
    """Return the gatherings that are due."""
    return _read(outbox, "due_at <= ?", stamp(now))


def _read(outbox: Outbox, condition: str, value: str) -> list[Gathering]:
    return [
        Gathering(
            row["group_name"],
            GatherReason(row["why"]),
            datetime.fromisoformat(row["opened_at"]),
            datetime.fromisoformat(row["due_at"]),
            row["digests"],
            row["summed_up"],
        )
        for row in outbox.rows(f"SELECT * FROM gatherings WHERE {condition}", (value,))
    ]


def write(outbox: Outbox, gathering: Gathering) -> None:
    """Insert or update a gathering, inside the caller's transaction."""
    outbox.change(
        "INSERT INTO gatherings (group_name, why, opened_at, due_at, digests, summed_up) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (group_name) DO UPDATE SET due_at = excluded.due_at, digests = excluded.digests,"
        " summed_up = excluded.summed_up",
        (
            gathering.group,
            gathering.why,
            stamp(gathering.opened_at),
            stamp(gathering.due_at),
            gathering.digests,
            gathering.summed_up,
        ),
    )


def waiting(outbox: Outbox, group: str) -> list[Gathered]:
    """Return the alerts held back in a group's gathering, the oldest first."""
    return _gathered(outbox, "group_name = ? AND state = 'gathered'", group)


def summed_up(outbox: Outbox, digest: str) -> list[Gathered]:
    """Return the alerts summed up by digests whose cause begins with `digest`."""
    return _gathered(outbox, "state = 'summed up' AND instr(told_by, ?) = 1", digest)


def _gathered(outbox: Outbox, condition: str, value: str) -> list[Gathered]:
    return [
        Gathered(row["cause"], row["kind"], row["subject"], tuple(json.loads(row["tags"])), row["body"])
        for row in outbox.rows(f"SELECT * FROM alerts WHERE {condition} ORDER BY posted_at, rowid", (value,))
    ]


def remove(outbox: Outbox, group: str) -> None:
    """Delete a gathering, inside the caller's transaction."""
    outbox.change("DELETE FROM gatherings WHERE group_name = ?", (group,))


SHORTLY = timedelta(minutes=2)
"""Alerts with the same alias that happened within this time of each other report the same thing."""


PERHAPS_PAUSE = timedelta(hours=1)
"""The pause after an alert was sent without an answer: it may have arrived, and each further attempt may be a copy."""


class EnqueueResult(StrEnum):
    """The result of posting an alert."""

    PENDING = "pending"  # to be delivered immediately
    GATHERED = "gathered"
    WAITING = "waiting"
    CANCELLED = "cancelled"  # its incident was never reported, or is over already
    KNOWN = "known"  # its cause was posted before


@dataclass(frozen=True)
class NewAlert:
    """An alert to post: its text, its cause, and the name of the notification block."""

    alert: Alert
    cause: AlertMetadata
    block: str


def post(outbox: Outbox, posting: NewAlert, policy: Policy, now: datetime) -> EnqueueResult:
    """Write an alert to the outbox, unless its cause has one already. Raises sqlite3.Error."""
    cause = posting.cause
    if cause.void:
        return EnqueueResult.CANCELLED
    with outbox.transaction():
        if outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause.id,)):
            return EnqueueResult.KNOWN
        if told_by := _told_under_its_alias(outbox, cause, now):
            insert(outbox, posting, AlertState.SUMMED_UP, now)
            outbox.change("UPDATE alerts SET told_by = ? WHERE cause = ?", (told_by, cause.id))
            return EnqueueResult.KNOWN
        state = _state(outbox, posting, policy, now)
        insert(outbox, posting, state, now)
        if cause.opens and state is not AlertState.CANCELLED:
            outbox.change(
                "INSERT INTO troubles (key, cause, opened_at) VALUES (?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET cause = excluded.cause, opened_at = excluded.opened_at",
                (cause.opens, cause.id, stamp(now)),
            )
        if state is AlertState.PENDING:
            address(outbox, cause.id, policy.channels(posting.block, cause.all_tags), now)
    return EnqueueResult(state.value)


def _told_under_its_alias(outbox: Outbox, cause: AlertMetadata, now: datetime) -> str | None:
    """Return the cause of an alert that reports the same thing under the same alias, or None."""
    happened = cause.occurred or now
    rows = outbox.rows(
        "SELECT cause FROM alerts WHERE alias = ? AND state <> 'cancelled' AND occurred_at BETWEEN ? AND ?"
        " ORDER BY occurred_at LIMIT 1",
        (cause.alias, stamp(happened - SHORTLY), stamp(happened + SHORTLY)),
    )
    return rows[0]["cause"] if rows else None


def _state(outbox: Outbox, posting: NewAlert, policy: Policy, now: datetime) -> AlertState:
    cause = posting.cause
    if cause.ends is not None and not _end(outbox, cause.ends):
        return AlertState.CANCELLED
    if cause.unless is not None:
        return AlertState.WAITING
    if posting.block == FALLBACK:
        return AlertState.PENDING  # it reports that the other channels fail
    return settle(outbox, cause.group, cause.all_tags, policy, now)


def _end(outbox: Outbox, key: str) -> bool:
    """Close an incident; return False if it was not reported."""
    opened = outbox.rows("DELETE FROM troubles WHERE key = ? RETURNING cause", (key,))
    # If its alert is still waiting, neither that alert nor the one about its end is sent.
    unreported = sum(
        outbox.change("UPDATE alerts SET state = 'cancelled' WHERE cause = ? AND state = 'waiting'", (row["cause"],))
        for row in opened
    )
    return len(opened) > unreported


def settle(outbox: Outbox, group: str, tags: Sequence[str], policy: Policy, now: datetime) -> AlertState:
    """Return whether an alert is delivered immediately or held back, inside the caller's transaction."""
    before = read(outbox, group)
    recent = sent_recently(outbox, group, policy, now)
    after = joins(group, recent, before, policy.storm, policy.silent_until(tags, now), now)
    if after is None:
        return AlertState.PENDING
    if after != before:
        write(outbox, after)
    return AlertState.GATHERED


def sent_recently(outbox: Outbox, group: str, policy: Policy, now: datetime) -> int:
    """Return how many alerts of a group were sent individually within the window; 0 without a group."""
    if not group:
        return 0
    return outbox.rows(
        "SELECT count(*) FROM alerts WHERE group_name = ? AND told_at > ? AND state IN ('pending', 'delivered')",
        (group, stamp(now - policy.storm.window)),
    )[0][0]


def insert(outbox: Outbox, posting: NewAlert, state: AlertState, now: datetime) -> None:
    """Insert one alert, inside the caller's transaction."""
    cause = posting.cause
    unless = cause.unless
    outbox.change(
        "INSERT INTO alerts (cause, block, kind, group_name, tags, type, subject, body, state, occurred_at, posted_at,"
        " told_at, unless, wait_until, alias) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            cause.id,
            posting.block,
            cause.kind,
            cause.group,
            json.dumps(cause.all_tags),
            cause.type,
            posting.alert.subject,
            posting.alert.body,
            state,
            stamp(cause.occurred or now),
            stamp(now),
            stamp(now) if state is AlertState.PENDING else None,
            unless.model_dump_json() if unless else None,
            stamp(now + timedelta(seconds=unless.wait_seconds)) if unless else None,
            cause.alias,
        ),
    )


def release_alert(outbox: Outbox, cause: str, channels: Sequence[Channel], now: datetime) -> None:
    """Release a held-back alert for delivery, inside the caller's transaction."""
    outbox.change("UPDATE alerts SET state = 'pending', told_at = ? WHERE cause = ?", (stamp(now), cause))
    address(outbox, cause, channels, now)


def release_from_silence(outbox: Outbox, cause: str, channels: Sequence[Channel], now: datetime) -> None:
    """Release an alert that is held back for quiet hours: without a dispatcher, nothing would send it when they end."""
    with outbox.transaction():
        if outbox.rows(
            "SELECT 1 FROM alerts JOIN gatherings USING (group_name) WHERE cause = ? AND state = 'gathered'"
            " AND why = 'silence'",
            (cause,),
        ):
            release_alert(outbox, cause, channels, now)


def is_pending(outbox: Outbox, cause: str) -> bool:
    """Return whether an alert is to be delivered now."""
    return bool(outbox.rows("SELECT 1 FROM alerts WHERE cause = ? AND state = 'pending'", (cause,)))


def address(
    outbox: Outbox, cause: str, channels: Sequence[Channel], now: datetime, *, is_fallback: bool = False
) -> None:
    """Record the channels that an alert must reach, inside the caller's transaction.

    An alert without any channel counts as delivered: the log of alerts, which has it already, is its only destination.
    A channel that got the alert while the outbox could not be written does not get it again.
    """
    record = sent_record(outbox.path)
    for channel in channels:
        sent, perhaps = record.was_sent(cause, channel.id), record.was_perhaps_sent(cause, channel.id)
        outbox.change(
            "INSERT INTO deliveries (cause, channel, is_fallback, state, next_at, delivered_at, tried_at, perhaps_at,"
            " failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                cause,
                channel.id,
                is_fallback,
                DeliveryState.DELIVERED if sent else DeliveryState.PENDING,
                stamp(now + PERHAPS_PAUSE if perhaps else now),
                stamp(now) if sent else None,
                stamp(now) if perhaps else None,
                stamp(now) if perhaps else None,
                "the alert was sent, and no answer came" if perhaps else None,
            ),
        )
    moment = {"now": stamp(now), "cause": cause}
    outbox.change(
        "UPDATE alerts SET delivered_at = :now WHERE cause = :cause AND state = 'pending' AND delivered_at IS NULL"
        " AND EXISTS (SELECT 1 FROM deliveries WHERE cause = :cause AND state = 'delivered')",
        moment,
    )
    if not is_fallback:
        outbox.change(
            "UPDATE alerts SET state = 'delivered', delivered_at = coalesce(delivered_at, :now) WHERE cause = :cause"
            " AND state = 'pending' AND NOT EXISTS (SELECT 1 FROM deliveries WHERE cause = :cause"
            "   AND state <> 'delivered' AND NOT is_fallback)",
            moment,
        )
