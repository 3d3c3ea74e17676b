"""What the outbox keeps of gatherings, and the digests that tell of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from automations.delivery.channels import FALLBACK, Channel, Policy
from automations.delivery.models import Alert, AlertState, Cause, DeliveryState
from automations.delivery.outbox import Outbox, stamp
from automations.delivery.rate_limit import Gathered, Gathering, Why, joins
from automations.delivery.sent_record import sent_record


def read(outbox: Outbox, group: str) -> Gathering | None:
    """Return where a group's alerts are gathered at the moment."""
    found = _read(outbox, "group_name = ?", group)
    return found[0] if found else None


def due(outbox: Outbox, now: datetime) -> list[Gathering]:
    """Return the gatherings whose time has come."""
    return _read(outbox, "due_at <= ?", stamp(now))


def _read(outbox: Outbox, condition: str, value: str) -> list[Gathering]:
    return [
        Gathering(
            row["group_name"],
            Why(row["why"]),
            datetime.fromisoformat(row["opened_at"]),
            datetime.fromisoformat(row["due_at"]),
            row["digests"],
            row["summed_up"],
        )
        for row in outbox.rows(f"SELECT * FROM gatherings WHERE {condition}", (value,))
    ]


def write(outbox: Outbox, gathering: Gathering) -> None:
    """Write a gathering down as it is now, inside the caller's transaction."""
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
    """Return the alerts that wait in a group's gathering, the oldest first."""
    return _gathered(outbox, "group_name = ? AND state = 'gathered'", group)


def summed_up(outbox: Outbox, digest: str) -> list[Gathered]:
    """Return the alerts that the digests told of whose cause begins like this."""
    return _gathered(outbox, "state = 'summed up' AND instr(told_by, ?) = 1", digest)


def _gathered(outbox: Outbox, condition: str, value: str) -> list[Gathered]:
    return [
        Gathered(row["cause"], row["kind"], row["subject"], tuple(json.loads(row["tags"])))
        for row in outbox.rows(f"SELECT * FROM alerts WHERE {condition} ORDER BY posted_at, rowid", (value,))
    ]


def remove(outbox: Outbox, group: str) -> None:
    """Forget a gathering that is over, inside the caller's transaction."""
    outbox.change("DELETE FROM gatherings WHERE group_name = ?", (group,))


# Posting: an alert is written into the outbox once, with the channels it has to reach.

SHORTLY = timedelta(minutes=2)
"""How far apart the same may have happened twice."""


PERHAPS_PAUSE = timedelta(hours=1)
"""How long an alert waits that was sent without an answer: it is perhaps delivered, and each attempt may be a copy."""


class Posted(StrEnum):
    """What became of an alert that was posted."""

    PENDING = "pending"  # to be delivered at once
    GATHERED = "gathered"
    WAITING = "waiting"
    CANCELLED = "cancelled"  # of a trouble that nobody was told of, or that was over already
    KNOWN = "known"  # it had been posted before


@dataclass(frozen=True)
class Posting:
    """An alert as it is posted: its text, what it is about, and to which of our blocks."""

    alert: Alert
    cause: Cause
    block: str


def post(outbox: Outbox, posting: Posting, policy: Policy, now: datetime) -> Posted:
    """Write an alert down, unless its cause has one already. Raises sqlite3.Error."""
    cause = posting.cause
    if cause.void:
        return Posted.CANCELLED
    with outbox.transaction():
        if outbox.rows("SELECT 1 FROM alerts WHERE cause = ?", (cause.id,)):
            return Posted.KNOWN
        if told_by := _told_under_its_alias(outbox, cause, now):
            insert(outbox, posting, AlertState.SUMMED_UP, now)
            outbox.change("UPDATE alerts SET told_by = ? WHERE cause = ?", (told_by, cause.id))
            return Posted.KNOWN
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
    return Posted(state.value)


def _told_under_its_alias(outbox: Outbox, cause: Cause, now: datetime) -> str | None:
    """Return the cause that tells of the same already, or None."""
    happened = cause.occurred or now
    rows = outbox.rows(
        "SELECT cause FROM alerts WHERE alias = ? AND state <> 'cancelled' AND occurred_at BETWEEN ? AND ?"
        " ORDER BY occurred_at LIMIT 1",
        (cause.alias, stamp(happened - SHORTLY), stamp(happened + SHORTLY)),
    )
    return rows[0]["cause"] if rows else None


def _state(outbox: Outbox, posting: Posting, policy: Policy, now: datetime) -> AlertState:
    cause = posting.cause
    if cause.ends is not None and not _end(outbox, cause.ends):
        return AlertState.CANCELLED
    if cause.unless is not None:
        return AlertState.WAITING
    if posting.block == FALLBACK:
        return AlertState.PENDING  # it tells that the others do not get through
    return settle(outbox, cause.group, cause.all_tags, policy, now)


def _end(outbox: Outbox, key: str) -> bool:
    """Close a trouble; False when nobody was told of it."""
    opened = outbox.rows("DELETE FROM troubles WHERE key = ? RETURNING cause", (key,))
    # One that still waits is not told at all, and neither is its end.
    untold = sum(
        outbox.change("UPDATE alerts SET state = 'cancelled' WHERE cause = ? AND state = 'waiting'", (row["cause"],))
        for row in opened
    )
    return len(opened) > untold


def settle(outbox: Outbox, group: str, tags: Sequence[str], policy: Policy, now: datetime) -> AlertState:
    """Return whether an alert is told at once or gathered, inside the caller's transaction."""
    before = read(outbox, group)
    recent = told_lately(outbox, group, policy, now)
    after = joins(group, recent, before, policy.storm, policy.silent_until(tags, now), now)
    if after is None:
        return AlertState.PENDING
    if after != before:
        write(outbox, after)
    return AlertState.GATHERED


def told_lately(outbox: Outbox, group: str, policy: Policy, now: datetime) -> int:
    """Return how many alerts of a group were told one by one within the window; of no group none."""
    if not group:
        return 0
    return outbox.rows(
        "SELECT count(*) FROM alerts WHERE group_name = ? AND told_at > ? AND state IN ('pending', 'delivered')",
        (group, stamp(now - policy.storm.window)),
    )[0][0]


def insert(outbox: Outbox, posting: Posting, state: AlertState, now: datetime) -> None:
    """Write one alert down, inside the caller's transaction."""
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


def tell(outbox: Outbox, cause: str, channels: Sequence[Channel], now: datetime) -> None:
    """Have an alert delivered from now on that was held back, inside the caller's transaction."""
    outbox.change("UPDATE alerts SET state = 'pending', told_at = ? WHERE cause = ?", (stamp(now), cause))
    address(outbox, cause, channels, now)


def address(
    outbox: Outbox, cause: str, channels: Sequence[Channel], now: datetime, *, is_fallback: bool = False
) -> None:
    """Write down which channels an alert has to reach, inside the caller's transaction.

    Without any channel it has got through: the log of alerts, which has it already, is the only place there is. A
    channel that was sent the alert while the outbox could not be written is not sent it again.
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
