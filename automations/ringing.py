"""Ringing: what the notification block does with one alert, in the server's process."""

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from automations.delivery import deliver as deliveries
from automations.delivery import digests
from automations.delivery import log as alert_log
from automations.delivery.channels import Channel
from automations.delivery.direct import direct_sender
from automations.delivery.enqueue import Posted, Posting, post, tell
from automations.delivery.outbox import Outbox, OutboxError
from automations.delivery.policy import ALERTS, Policy
from automations.delivery.sending import drain, send
from automations.delivery.waiting import release_overdue

logger = logging.getLogger(__name__)

START_GRACE = timedelta(minutes=3)
"""After its start a server hears of sensors and workers no later than this, also on a slow machine."""
MOST_WAIT_SECONDS = 3600.0
DRAIN_SECONDS = 15.0
"""How long the server's action goes on with what a bell that died has left; others wait for their turn meanwhile."""


def ring(path: Path, policy: Policy, posting: Posting, log: Path | None) -> list[str]:
    """Post an alert into the outbox at `path`, and deliver it here and now if no bell is there to do so.

    What the bell has left is then delivered as well. Returns why the alert was not delivered, a line for each channel.
    Raises OutboxError, sqlite3.Error for an alert that was not written down; one that was is not for others to deliver.
    """
    now = datetime.now(UTC)
    posting = with_grace(posting, now, server_started_at())
    sender = direct_sender(path, log)
    with Outbox(path) as outbox:
        sender.record.prepare()
        sender.record_sent(outbox, policy, now)
        posted = post(outbox, posting, policy, now)
        alert_log.record(log, posting, posted, policy, now)
        if outbox.has_a_bell(now):
            return []
    if posted is Posted.WAITING:
        _ring_later(path, policy, posting, log)
        return []
    return _ring_without_bell(path, policy, posting, log)


def _ring_without_bell(path: Path, policy: Policy, posting: Posting, log: Path | None) -> list[str]:
    now = datetime.now(UTC)
    failures: list[str] = []
    try:
        if _is_to_be_told(path, posting, policy, log, now):
            channels = policy.channels(posting.block, posting.cause.all_tags)
            failures = _deliver(path, posting.cause.id, channels, log)
        _drain(path, list(policy.all_channels.values()), log)
    except (OutboxError, sqlite3.Error) as error:
        failures.append(f"the outbox: {error}; the bell delivers it")
    return failures


def with_grace(posting: Posting, now: datetime, started_at: datetime) -> Posting:
    """Return an alert that an event may make needless with a longer wait if the server has just started.

    While it was down it heard of no one, and what starts together with it needs a while until it is heard of.
    """
    unless = posting.cause.unless
    if unless is None:
        return posting
    wait = max(unless.wait_seconds, min((started_at + START_GRACE - now).total_seconds(), MOST_WAIT_SECONDS))
    waiting = unless.model_copy(update={"wait_seconds": wait})
    return replace(posting, cause=posting.cause.model_copy(update={"unless": waiting}))


def server_started_at() -> datetime:
    """Return when this process, the server's, was started."""
    return datetime.fromtimestamp(psutil.Process().create_time(), UTC)


def _ring_later(path: Path, policy: Policy, posting: Posting, log: Path | None) -> None:
    """Have an alert sent when its wait is over, if no bell is there by then, which could see that it is needless.

    In a thread, as the server's other actions wait for this one. If the server dies meanwhile, the next one that rings
    or the bell sends it.
    """
    unless = posting.cause.unless
    timer = threading.Timer(unless.wait_seconds + 1 if unless else 0, _ring_if_no_bell, (path, policy, posting, log))
    timer.daemon = True
    timer.start()


def _ring_if_no_bell(path: Path, policy: Policy, posting: Posting, log: Path | None) -> None:
    try:
        with Outbox(path) as outbox:
            has_a_bell = outbox.has_a_bell(datetime.now(UTC))
        failures = [] if has_a_bell else _ring_without_bell(path, policy, posting, log)
    except (OutboxError, sqlite3.Error) as error:
        failures = [f"the outbox: {error}"]
    if failures:
        logger.warning("an alert that has waited is not delivered: %s", "; ".join(failures))


def _is_to_be_told(path: Path, posting: Posting, policy: Policy, log: Path | None, now: datetime) -> bool:
    """Do what is else the bell's: let go what waits; return whether this alert is to be delivered."""
    with Outbox(path) as outbox:
        _break_silence(outbox, posting, policy, now)
        if posting.block == ALERTS:  # the fallback does not know where the others' alerts go
            release_overdue(outbox, policy, now, timedelta(0))
            for message in digests.step(outbox, policy, now):
                alert_log.record(log, message, Posted.PENDING, policy, now)
        return bool(outbox.rows("SELECT 1 FROM alerts WHERE cause = ? AND state = 'pending'", (posting.cause.id,)))


def _break_silence(outbox: Outbox, posting: Posting, policy: Policy, now: datetime) -> None:
    """Have an alert told in the hours of silence: nobody is there to tell it when they are over."""
    with outbox.transaction():
        held = outbox.rows(
            "SELECT 1 FROM alerts JOIN gatherings USING (group_name) WHERE cause = ? AND state = 'gathered'"
            " AND why = 'silence'",
            (posting.cause.id,),
        )
        if held:
            tell(outbox, posting.cause.id, policy.channels(posting.block, posting.cause.all_tags), now)


def _drain(path: Path, channels: Sequence[Channel], log: Path | None) -> None:
    until = time.monotonic() + DRAIN_SECONDS
    with ThreadPoolExecutor(max_workers=max(1, len(channels)), thread_name_prefix="alert") as threads:
        for channel in channels:
            threads.submit(drain, path, channel, log, lambda: time.monotonic() > until)


def _deliver(path: Path, cause: str, channels: Sequence[Channel], log: Path | None) -> list[str]:
    if not channels:
        return []
    with ThreadPoolExecutor(max_workers=len(channels), thread_name_prefix="alert") as threads:
        sending = [threads.submit(_send, path, cause, channel, log) for channel in channels]
    failures = [one.result() for one in sending]
    return [f"URL {one.name}: {why}" for one, why in zip(channels, failures, strict=True) if why is not None]


def _send(path: Path, cause: str, channel: Channel, log: Path | None) -> str | None:
    with Outbox(path) as outbox:
        claimed = deliveries.claim(outbox, channel.id, datetime.now(UTC), cause)
        return send(outbox, claimed, channel, log) if claimed else None
