"""Deliver alerts from the outbox: claim an alert for a channel, send it, and record the result.

A failed delivery is retried after a pause that doubles with each failure; its channel rests as well. An alert that was
sent without an answer may have arrived, so it is repeated after longer pauses.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from automations.delivery import log as alert_log
from automations.delivery.channels import Channel, Policy
from automations.delivery.enqueue import PERHAPS_PAUSE, address
from automations.delivery.models import Alert, NotifyType
from automations.delivery.outbox import Outbox, sent_record
from automations.delivery.send import TIME_LIMIT_SECONDS, deliver
from automations.sqlite_file import stamp

CLAIM = timedelta(seconds=TIME_LIMIT_SECONDS + 15)
"""How long a process may take for one attempt. If it was killed meanwhile, it is unknown whether the alert arrived."""
SET_BACK = timedelta(minutes=1)
"""How far in the future a time may be before it means that the clock was set back. A process that waits for the
outbox's lock uses the time from before the wait, and another process may have claimed something since.
"""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(minutes=2)
LONGEST_PERHAPS_PAUSE = timedelta(days=1)


@dataclass(frozen=True)
class DeliveryClaim:
    """One alert that only this process may send to one channel now."""

    cause: str
    subject: str
    body: str
    type: str
    occurred_at: datetime
    attempt: int
    last_failure: str | None
    perhaps_at: datetime | None = None
    """When it was first sent without an answer."""


def pause(failures: int) -> timedelta:
    """Return the pause after the n-th failure in a row: doubled each time, two minutes at most."""
    return min(FIRST_PAUSE * 2 ** min(max(0, failures - 1), 10), LONGEST_PAUSE)


_DUE = (
    "a.state = 'pending' AND d.channel = :channel AND d.state <> 'delivered' AND (d.state = 'pending'"
    " OR d.claimed_until <= :now OR d.claimed_until > :claim)"
)
# A pause that began in the future dates from a clock that was since set back. Rows of schema version 2
# do not say when theirs began.
_RESTED = (
    "(c.rest_until IS NULL OR c.rest_until <= :now OR c.failed_at > :latest"
    "   OR (c.failed_at IS NULL AND c.rest_until > :longest))"
    " AND (d.next_at <= :now OR d.tried_at > :latest OR (d.tried_at IS NULL AND d.next_at > :longest))"
)
_TABLES = "deliveries d JOIN alerts a USING (cause) LEFT JOIN channels c USING (channel)"


def _moments(now: datetime) -> dict[str, str]:
    """Return the times that the SQL statements compare with.

    A row that would wait longer than the longest pause was written before the clock was set back, and counts as due.
    """
    latest = now + SET_BACK
    return {
        "now": stamp(now),
        "latest": stamp(latest),
        "claim": stamp(latest + CLAIM),
        "longest": stamp(latest + LONGEST_PAUSE),
    }


def has_something_due(outbox: Outbox, channel: str, now: datetime) -> bool:
    """Return whether a channel has an alert to deliver now and does not rest."""
    return bool(
        outbox.rows(
            f"SELECT 1 FROM {_TABLES} WHERE {_DUE} AND {_RESTED} LIMIT 1", {"channel": channel, **_moments(now)}
        )
    )


def claim(outbox: Outbox, channel: str, now: datetime, cause: str | None = None) -> DeliveryClaim | None:
    """Claim a channel's next alert, with the fewest attempts and the oldest first; None if none is due.

    With a `cause`, claim the alert of that cause and ignore its pauses and the channel's rest.
    """
    which = _RESTED if cause is None else "d.cause = :cause"
    with outbox.transaction():
        found = outbox.rows(
            f"SELECT a.*, d.attempts, d.failure, d.perhaps_at FROM {_TABLES} WHERE {_DUE} AND {which}"
            " ORDER BY d.attempts, d.rowid LIMIT 1",
            {"channel": channel, "cause": cause, **_moments(now)},
        )
        if not found:
            return None
        row = found[0]
        claimed = outbox.change(
            "UPDATE deliveries SET state = 'sending', claimed_until = ?, attempts = attempts + 1"
            " WHERE cause = ? AND channel = ? AND state <> 'delivered'",
            (stamp(now + CLAIM), row["cause"], channel),
        )
    if not claimed:
        return None
    return _claim(row)


def unclaimed(outbox: Outbox, channel: str, now: datetime) -> list[DeliveryClaim]:
    """Return a channel's due alerts without claiming them, for when the outbox cannot be written."""
    rows = outbox.rows(
        f"SELECT a.*, d.attempts, d.failure, d.perhaps_at FROM {_TABLES} WHERE {_DUE} AND {_RESTED}"
        " ORDER BY d.attempts, d.rowid",
        {"channel": channel, **_moments(now)},
    )
    return [_claim(row) for row in rows]


def _claim(row: sqlite3.Row) -> DeliveryClaim:
    return DeliveryClaim(
        row["cause"],
        row["subject"],
        row["body"],
        row["type"],
        datetime.fromisoformat(row["occurred_at"]),
        row["attempts"] + 1,
        row["failure"],
        datetime.fromisoformat(row["perhaps_at"]) if row["perhaps_at"] else None,
    )


def record_delivered(outbox: Outbox, claimed: DeliveryClaim, channel: Channel, now: datetime) -> bool:
    """Record that a channel took an alert; return False if that was recorded before."""
    with outbox.transaction():
        changed = outbox.change(
            # Also if the channel was removed meanwhile, so that it does not get the alert again when it is added back.
            "INSERT INTO deliveries (cause, channel, is_fallback, state, attempts, next_at, delivered_at)"
            " SELECT cause, :channel, 0, 'delivered', :attempt, :now, :now FROM alerts WHERE cause = :cause"
            " ON CONFLICT (cause, channel) DO UPDATE SET state = 'delivered', delivered_at = excluded.delivered_at,"
            " claimed_until = NULL, failure = NULL WHERE state <> 'delivered'",
            {"cause": claimed.cause, "channel": channel.id, "attempt": claimed.attempt, "now": stamp(now)},
        )
        outbox.change("DELETE FROM channels WHERE channel = ?", (channel.id,))
        outbox.change(
            "UPDATE alerts SET delivered_at = coalesce(delivered_at, :now), state = CASE WHEN EXISTS (SELECT 1"
            " FROM deliveries WHERE cause = :cause AND state <> 'delivered' AND NOT is_fallback)"
            " THEN state ELSE 'delivered' END WHERE cause = :cause AND state = 'pending'",
            {"now": stamp(now), "cause": claimed.cause},
        )
    return bool(changed)


def record_failed(
    outbox: Outbox,
    claimed: DeliveryClaim,
    channel: Channel,
    failure: str,
    now: datetime,
    *,
    is_open: bool = False,
    retry_after: float = 0.0,
) -> datetime:
    """Record that a channel did not take an alert, and pause both; return when the alert is tried again.

    `is_open` says that the channel may have the alert nevertheless; `retry_after` is the pause that the service asks
    for, in seconds.
    """
    asked = timedelta(seconds=retry_after)
    perhaps_at = claimed.perhaps_at or (now if is_open else None)
    if perhaps_at is None:
        wait = max(pause(claimed.attempt), asked)
    else:  # twice as long each time
        wait = min(max(PERHAPS_PAUSE, now - perhaps_at, asked), LONGEST_PERHAPS_PAUSE)
    with outbox.transaction():
        outbox.change(
            "UPDATE deliveries SET state = 'pending', claimed_until = NULL, failure = ?, next_at = ?, tried_at = ?,"
            " perhaps_at = ?"
            # Unless another process has claimed it since: a machine may sleep for longer than a claim lasts.
            " WHERE cause = ? AND channel = ? AND state = 'sending' AND attempts = ?",
            (
                failure,
                stamp(now + wait),
                stamp(now),
                stamp(perhaps_at) if perhaps_at else None,
                claimed.cause,
                channel.id,
                claimed.attempt,
            ),
        )
        before = outbox.rows("SELECT failures FROM channels WHERE channel = ?", (channel.id,))
        failures = (before[0]["failures"] if before else 0) + 1
        outbox.change(
            "INSERT INTO channels (channel, name, failures, rest_until, failing_since, failure, failed_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (channel) DO UPDATE SET name = excluded.name, failures = excluded.failures,"
            " rest_until = excluded.rest_until, failure = excluded.failure, failed_at = excluded.failed_at",
            (
                channel.id,
                channel.name,
                failures,
                stamp(now + max(pause(failures), asked)),
                stamp(now),
                failure,
                stamp(now),
            ),
        )
    return now + wait


def retarget(outbox: Outbox, policy: Policy, now: datetime) -> None:
    """Route undelivered alerts by the current policy: a URL may have been corrected, added or removed."""
    known = policy.all_channels
    with outbox.transaction():
        for row in outbox.rows("SELECT DISTINCT channel FROM deliveries WHERE state <> 'delivered'"):
            if row["channel"] not in known:
                outbox.change("DELETE FROM deliveries WHERE channel = ? AND state <> 'delivered'", (row["channel"],))
        for row in outbox.rows("SELECT channel FROM channels"):
            if row["channel"] not in known:
                outbox.change("DELETE FROM channels WHERE channel = ?", (row["channel"],))
        for row in outbox.rows("SELECT cause, block, tags FROM alerts WHERE state = 'pending'"):
            address(outbox, row["cause"], policy.channels(row["block"], json.loads(row["tags"])), now)
        outbox.change(
            "UPDATE alerts SET state = 'delivered' WHERE state = 'pending' AND delivered_at IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM deliveries d WHERE d.cause = alerts.cause AND d.state <> 'delivered'"
            "   AND NOT d.is_fallback)"
        )
        outbox.change("UPDATE channels SET rest_until = ''")
        outbox.change("UPDATE deliveries SET next_at = '' WHERE state = 'pending' AND perhaps_at IS NULL")


LATE = timedelta(minutes=1)


def drain(path: Path, channel: Channel, log: Path | None, is_over: Callable[[], bool]) -> None:
    """Send a channel's due alerts one after the other, until one fails or `is_over` returns True.

    Raises OutboxError, sqlite3.Error.
    """
    with Outbox(path) as outbox:
        try:
            while not is_over() and (claimed := claim(outbox, channel.id, datetime.now(UTC))):
                if send(outbox, claimed, channel, log) is not None:
                    return
        except sqlite3.Error:
            _send_unclaimed(outbox, channel, log, is_over)
            raise


_resting: dict[tuple[Path, str], tuple[int, float]] = {}
"""By outbox and channel: the failures in a row while no claim could be written, and until when the channel rests, in
monotonic time.
"""


def _send_unclaimed(outbox: Outbox, channel: Channel, log: Path | None, is_over: Callable[[], bool]) -> None:
    """Send due alerts once while the outbox can be read but not written; the sent record remembers them."""
    record, place = sent_record(outbox.path), (outbox.path, channel.id)
    failures, until = _resting.get(place, (0, 0.0))
    if time.monotonic() < until:
        return
    for one in unclaimed(outbox, channel.id, datetime.now(UTC)):
        now = datetime.now(UTC)
        if is_over() or not record.claim(one.cause, channel.id, now):
            continue
        [delivery] = deliver(with_late_note(one, now), [channel.url], cast("NotifyType", one.type))
        if delivery.delivered:
            record.record_sent(one.cause, channel.id, now)
            alert_log.note(log, f"delivered to {channel.name}, without the outbox: {one.subject}", now)
            _resting.pop(place, None)
            continue
        if delivery.is_open:
            record.record_perhaps_sent(one.cause, channel.id, now)
        else:
            record.release(one.cause, channel.id)
        rest_seconds = max(pause(failures + 1).total_seconds(), delivery.retry_after)
        _resting[place] = (failures + 1, time.monotonic() + rest_seconds)
        return


def send(outbox: Outbox, claimed: DeliveryClaim, channel: Channel, log: Path | None) -> str | None:
    """Send one claimed alert and record the result; return why it failed, or None."""
    alert = with_late_note(claimed, datetime.now(UTC))
    record = sent_record(outbox.path)
    if record.was_sent(claimed.cause, channel.id):
        record_delivered(outbox, claimed, channel, datetime.now(UTC))
        return None
    if record.was_perhaps_sent(claimed.cause, channel.id) and claimed.perhaps_at is None:
        failure = "the alert was sent, and no answer came"
        record_failed(outbox, claimed, channel, failure, datetime.now(UTC), is_open=True)
        return f"perhaps delivered: {failure}"
    [delivery] = deliver(alert, [channel.url], cast("NotifyType", claimed.type))
    now = datetime.now(UTC)
    if delivery.delivered:
        try:
            is_news = record_delivered(outbox, claimed, channel, now)
        except sqlite3.Error:
            record.record_sent(claimed.cause, channel.id, now)  # the next attempt finds it there and only records it
            raise
        if is_news:
            alert_log.note(log, f"delivered to {channel.name}: {alert.subject}", now)
        return None
    failure = delivery.failure or "the service gave no reason"
    next_at = record_failed(
        outbox, claimed, channel, failure, now, is_open=delivery.is_open, retry_after=delivery.retry_after
    )
    if delivery.is_open:
        again = f"{next_at.astimezone():%Y-%m-%d %H:%M %Z}"
        alert_log.note(
            log, f"PERHAPS delivered to {channel.name}, it is sent again at {again}: {alert.subject}: {failure}", now
        )
        return f"perhaps delivered: {failure}"
    if failure != claimed.last_failure:
        alert_log.note(log, f"NOT delivered to {channel.name}, it is tried again: {alert.subject}: {failure}", now)
    return failure


def with_late_note(claimed: DeliveryClaim, now: datetime) -> Alert:
    """Return the alert as it is sent now, with a note if it is late or may be a repetition."""
    alert = Alert(claimed.subject, claimed.body)
    if claimed.perhaps_at is not None:
        first = f"{claimed.perhaps_at.astimezone():%Y-%m-%d %H:%M %Z}"
        return replace(
            alert, body=f"{alert.body}\nSent again: it may not have arrived when it was sent at {first}.".strip()
        )
    late = now - claimed.occurred_at
    if late < LATE:
        return alert
    minutes = round(late.total_seconds() / 60)
    ago = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return replace(alert, body=f"{alert.body}\nDelivered late: {ago} after it happened.".strip())
