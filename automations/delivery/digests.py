"""Digests: process the gatherings that are due. Each is summed up in a message, released or ended."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from automations.delivery import enqueue, rate_limit
from automations.delivery.channels import ALERTS, Policy
from automations.delivery.enqueue import NewAlert, address, insert, release_alert, sent_recently
from automations.delivery.models import Alert, AlertMetadata, AlertState, NotifyType
from automations.delivery.outbox import Outbox, stamp
from automations.delivery.rate_limit import GatherDecision, Gathered, Gathering, GatherReason
from automations.delivery.send import takes_whole


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
