"""Sending: one alert is brought through one channel, and its outcome is written down at once."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from automations.delivery import deliver as deliveries
from automations.delivery import log as alert_log
from automations.delivery.alert import Alert
from automations.delivery.channels import Channel
from automations.delivery.deliver import Claim
from automations.delivery.models import NotifyType
from automations.delivery.outbox import Outbox
from automations.delivery.send import deliver
from automations.delivery.sent_record import sent_record

LATE = timedelta(minutes=1)


def drain(path: Path, channel: Channel, log: Path | None, is_over: Callable[[], bool]) -> None:
    """Bring through a channel what is due, one alert after the other, until one fails or it is over.

    Raises OutboxError, sqlite3.Error.
    """
    with Outbox(path) as outbox:
        try:
            while not is_over() and (claimed := deliveries.claim(outbox, channel.id, datetime.now(UTC))):
                if send(outbox, claimed, channel, log) is not None:
                    return
        except sqlite3.Error:
            _send_unclaimed(outbox, channel, log, is_over)
            raise


_resting: dict[tuple[Path, str], tuple[int, float]] = {}
"""How often in a row a channel has failed while no claim could be written, and until when it rests (monotonic)."""


def _send_unclaimed(outbox: Outbox, channel: Channel, log: Path | None, is_over: Callable[[], bool]) -> None:
    """Send what is due once, while the outbox can be read and not written; the record says what was sent."""
    record, place = sent_record(outbox.path), (outbox.path, channel.id)
    failures, until = _resting.get(place, (0, 0.0))
    if time.monotonic() < until:
        return
    for one in deliveries.unclaimed(outbox, channel.id, datetime.now(UTC)):
        now = datetime.now(UTC)
        if is_over() or not record.claim(one.cause, channel.id, now):
            continue
        [delivery] = deliver(told_late(one, now), [channel.url], cast("NotifyType", one.type))
        if delivery.delivered:
            record.record_sent(one.cause, channel.id, now)
            alert_log.note(log, f"delivered to {channel.name}, without the outbox: {one.subject}", now)
            _resting.pop(place, None)
            continue
        if delivery.is_open:
            record.record_perhaps_sent(one.cause, channel.id, now)
        else:
            record.release(one.cause, channel.id)
        pause = max(deliveries.pause(failures + 1).total_seconds(), delivery.retry_after)
        _resting[place] = (failures + 1, time.monotonic() + pause)
        return


def send(outbox: Outbox, claimed: Claim, channel: Channel, log: Path | None) -> str | None:
    """Bring one claimed alert through; return why that failed, or None."""
    alert = told_late(claimed, datetime.now(UTC))
    record = sent_record(outbox.path)
    if record.was_sent(claimed.cause, channel.id):
        deliveries.record_delivered(outbox, claimed, channel, datetime.now(UTC))
        return None
    if record.was_perhaps_sent(claimed.cause, channel.id) and claimed.perhaps_at is None:
        failure = "the alert was sent, and no answer came"
        deliveries.record_failed(outbox, claimed, channel, failure, datetime.now(UTC), is_open=True)
        return f"perhaps delivered: {failure}"
    [delivery] = deliver(alert, [channel.url], cast("NotifyType", claimed.type))
    now = datetime.now(UTC)
    if delivery.delivered:
        try:
            is_news = deliveries.record_delivered(outbox, claimed, channel, now)
        except sqlite3.Error:
            record.record_sent(claimed.cause, channel.id, now)  # the next attempt finds it there, and only records it
            raise
        if is_news:
            alert_log.note(log, f"delivered to {channel.name}: {alert.subject}", now)
        return None
    failure = delivery.failure or "the service gave no reason"
    next_at = deliveries.record_failed(
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


def told_late(claimed: Claim, now: datetime) -> Alert:
    """Return the alert as it is sent now: one that comes late, or perhaps a second time, says so."""
    alert = Alert(claimed.subject, claimed.body)
    if claimed.perhaps_at is not None:
        first = f"{claimed.perhaps_at.astimezone():%Y-%m-%d %H:%M %Z}"
        return replace(alert, body=f"{alert.body}\nSent again: no answer came when it was sent at {first}.".strip())
    late = now - claimed.occurred_at
    if late < LATE:
        return alert
    minutes = round(late.total_seconds() / 60)
    ago = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return replace(alert, body=f"{alert.body}\nDelivered late: {ago} after it happened.".strip())
