"""Digests: process the gatherings that are due. Each is summed up in a message, released or ended."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from automations.delivery import enqueue as gatherings
from automations.delivery import rate_limit as storm
from automations.delivery.channels import ALERTS, Policy
from automations.delivery.enqueue import Posting, address, insert, tell, told_lately
from automations.delivery.models import Alert, AlertState, Cause, NotifyType
from automations.delivery.outbox import Outbox, stamp
from automations.delivery.rate_limit import Gathered, Gathering, Verdict, Why


def step(outbox: Outbox, policy: Policy, now: datetime) -> list[Posting]:
    """Process every gathering that is due; return the messages about them. Raises sqlite3.Error."""
    made: list[Posting] = []
    for gathering in gatherings.due(outbox, now):
        with outbox.transaction():
            if gatherings.read(outbox, gathering.group) != gathering:
                continue  # another process has processed it: the dispatcher, or a server while no dispatcher runs
            waiting = gatherings.waiting(outbox, gathering.group)
            if silent_until := _silent_until(policy, waiting, now):
                gatherings.write(outbox, replace(gathering, due_at=silent_until))
                continue
            recent = told_lately(outbox, gathering.group, policy, now)
            verdict = storm.judge(gathering, len(waiting), recent, policy.storm)
            made += _tell(outbox, gathering, waiting, verdict, policy, now)
            after = storm.goes_on(gathering, verdict, policy.storm, now)
            if after is None:
                gatherings.remove(outbox, gathering.group)
            else:
                told = len(waiting) if verdict is Verdict.DIGEST else 0
                gatherings.write(outbox, replace(after, summed_up=after.summed_up + told))
    return made


def _silent_until(policy: Policy, waiting: Sequence[Gathered], now: datetime) -> datetime | None:
    """Return until when all these alerts are held back, or None: an alert that is not held back releases the others."""
    until = [policy.silent_until(one.tags, now) for one in waiting] or [policy.silent_until((), now)]
    held = [one for one in until if one is not None]
    return max(held) if len(held) == len(until) else None


def _tell(
    outbox: Outbox, gathering: Gathering, waiting: list[Gathered], verdict: Verdict, policy: Policy, now: datetime
) -> list[Posting]:
    name = f"{gathering.group}/{stamp(gathering.opened_at)}"
    made: list[Posting] = []
    if verdict is Verdict.RELEASE:
        for one in waiting:
            tell(outbox, one.cause, policy.channels(ALERTS, one.tags), now)
    elif verdict is Verdict.DIGEST:
        for number, some in enumerate(_by_channels(policy, waiting)):
            cause = f"digest/{name}/{gathering.digests}/{number}"
            made.append(_message(cause, storm.digest(gathering, some), some[0].tags, "failure"))
            for one in some:
                outbox.change("UPDATE alerts SET state = 'summed up', told_by = ? WHERE cause = ?", (cause, one.cause))
    elif gathering.why is Why.STORM and gathering.summed_up:
        before = gatherings.summed_up(outbox, f"digest/{name}/")
        for number, some in enumerate(_by_channels(policy, before)):
            alert = storm.calm(gathering, policy.storm)
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


def _message(cause: str, alert: Alert, tags: tuple[str, ...], kind: NotifyType) -> Posting:
    return Posting(alert, Cause(id=cause, kind="digest", tags=tags, type=kind), ALERTS)
