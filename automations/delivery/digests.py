"""Digests: process the gatherings that are due. Each is summed up in a message, released or ended."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from automations.delivery import enqueue, rate_limit
from automations.delivery.channels import ALERTS, Policy
from automations.delivery.enqueue import NewAlert, address, insert, release_alert, sent_recently, settle
from automations.delivery.models import Alert, AlertMetadata, AlertState, NotifyType, Unless
from automations.delivery.outbox import Outbox
from automations.delivery.rate_limit import GatherDecision, Gathered, Gathering, GatherReason
from automations.delivery.send import takes_whole
from automations.sqlite_file import stamp


def sum_up_due(outbox: Outbox, policy: Policy, now: datetime) -> list[NewAlert]:
    """Process every gathering that is due; return the messages about them. Raises sqlite3.Error."""
    made: list[NewAlert] = []
    for gathering in enqueue.due(outbox, now):
        with outbox.transaction():
            if enqueue.read(outbox, gathering.group) != gathering:
                continue  # another process has processed it: the dispatcher, or a server while no dispatcher runs
            waiting = enqueue.waiting(outbox, gathering.group)
            if silent_until := _silent_until(policy, waiting, now):
                enqueue.write(outbox, replace(gathering, due_at=silent_until))
                continue
            recent = sent_recently(outbox, gathering.group, policy, now)
            verdict = rate_limit.judge(gathering, len(waiting), recent, policy.storm)
            made += _tell(outbox, gathering, waiting, verdict, policy, now)
            after = rate_limit.goes_on(gathering, verdict, policy.storm, now)
            if after is None:
                enqueue.remove(outbox, gathering.group)
            else:
                count = len(waiting) if verdict is GatherDecision.DIGEST else 0
                enqueue.write(outbox, replace(after, summed_up=after.summed_up + count))
    return made


def _silent_until(policy: Policy, waiting: Sequence[Gathered], now: datetime) -> datetime | None:
    """Return until when all these alerts are held back, or None: an alert that is not held back releases the others."""
    until = [policy.silent_until(one.tags, now) for one in waiting] or [policy.silent_until((), now)]
    held = [one for one in until if one is not None]
    return max(held) if len(held) == len(until) else None


def _tell(
    outbox: Outbox,
    gathering: Gathering,
    waiting: list[Gathered],
    verdict: GatherDecision,
    policy: Policy,
    now: datetime,
) -> list[NewAlert]:
    name = f"{gathering.group}/{stamp(gathering.opened_at)}"
    made: list[NewAlert] = []
    if verdict is GatherDecision.RELEASE:
        for one in waiting:
            release_alert(outbox, one.cause, policy.channels(ALERTS, one.tags), now)
    elif verdict is GatherDecision.DIGEST:
        for number, some in enumerate(_by_channels(policy, waiting)):
            cause = f"digest/{name}/{gathering.digests}/{number}"
            urls = [channel.url for channel in policy.channels(ALERTS, some[0].tags)]
            alert = rate_limit.digest(gathering, some, lambda alert, urls=urls: takes_whole(alert, urls))
            made.append(_message(cause, alert, some[0].tags, "failure"))
            for one in some:
                outbox.change("UPDATE alerts SET state = 'summed up', told_by = ? WHERE cause = ?", (cause, one.cause))
    elif gathering.why is GatherReason.STORM and gathering.summed_up:
        before = enqueue.summed_up(outbox, f"digest/{name}/")
        for number, some in enumerate(_by_channels(policy, before)):
            alert = rate_limit.calm(gathering, policy.storm)
            made.append(_message(f"calm/{name}/{number}", alert, some[0].tags, "success"))
    for message in made:
        insert(outbox, message, AlertState.PENDING, now)
        address(outbox, message.cause.id, policy.channels(ALERTS, message.cause.all_tags), now)
    return made


def _by_channels(policy: Policy, waiting: Sequence[Gathered]) -> list[list[Gathered]]:
    """Return the alerts grouped by their channels: a digest goes where each of its alerts would have gone."""
    found: dict[tuple[str, ...], list[Gathered]] = {}
    for one in waiting:
        found.setdefault(tuple(channel.id for channel in policy.channels(ALERTS, one.tags)), []).append(one)
    return list(found.values())


def _message(cause: str, alert: Alert, tags: tuple[str, ...], kind: NotifyType) -> NewAlert:
    return NewAlert(alert, AlertMetadata(id=cause, kind="digest", tags=tags, type=kind), ALERTS)


# Alerts that wait for an event that may make them unnecessary, and the deletion of old alerts.

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
