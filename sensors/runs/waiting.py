"""Why a run does not start, continue or end: what holds it, and the command that fixes that.

Pure functions on the facts from one reading of the server.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sensors.runs.facts import Found, RunFacts, part

SLOT = "AwaitingConcurrencySlot"


class ReportDelay(StrEnum):
    """How soon a hold is reported."""

    SHORT = "short"  # it does not end by itself
    LONG = "long"  # it may end by itself, when the runs before this one end


_SAID_AFTER = {ReportDelay.SHORT: timedelta(minutes=1), ReportDelay.LONG: timedelta(minutes=5)}


@dataclass(frozen=True)
class RunHold:
    """The reason why a run does not continue, and how to fix it."""

    key: str
    """The same for all runs with the same cause."""
    reason: str
    mend: str
    since: datetime
    """Start of the wait."""
    patience: ReportDelay = ReportDelay.SHORT
    is_final: bool = False
    """Whether this run can never start, even after the cause is fixed."""

    def is_reportable(self, now: datetime) -> bool:
        """Return whether the run has waited long enough for the status to report it."""
        return now - self.since >= _SAID_AFTER[self.patience]


def hold_of(run: Found, facts: RunFacts) -> RunHold | None:
    """Return what holds an unfinished run that is due; None if the run is working."""
    state, since = run["state_type"], waits_since(run)
    identity = run["id"]
    cancel = f"`just prefect flow-run cancel {identity}`"
    match state:
        case "SCHEDULED":
            return _unstarted(run, facts, since)
        case "PENDING":
            reason = "a worker has taken it, and its process has not started"
            return RunHold(
                identity, reason, f"`just logs worker` says why; {cancel} gives it up", since, ReportDelay.LONG
            )
        case "PAUSED":
            reason = f"it is {run['state_name'].lower()}, by its flow or by a person"
            return RunHold(identity, reason, f"Resume on its page lets it go on; {cancel} gives it up", since)
        case "CANCELLING":
            reason = "it is to be cancelled, and no worker has ended its process"
            mend = f"`just logs worker` says why; `just prefect flow-run delete {identity}` forgets it"
            return RunHold(identity, reason, mend, since, ReportDelay.LONG)
        case _:
            return None


def waits_since(run: Found) -> datetime:
    """Return since when an unfinished run has been waiting or working."""
    if run["state_type"] != "SCHEDULED":
        return datetime.fromisoformat(run["state"]["timestamp"])
    # While a run waits for a slot, Prefect reschedules it again and again, each time with a new time.
    named = "expected_start_time" if run["state_name"] == SLOT else "next_scheduled_start_time"
    return datetime.fromisoformat(run.get(named) or run["expected_start_time"])


def _unstarted(run: Found, facts: RunFacts, since: datetime) -> RunHold | None:
    deployment = facts.deployment_of(run)
    if run["state_name"] == SLOT:
        return _without_slot(deployment, facts, since)
    queue = facts.queues.get(run.get("work_queue_id") or "")
    if queue is None:
        return _without_queue(run, deployment, facts, since)
    pool = facts.pools.get(queue["work_pool_id"])
    return None if pool is None else next(_holds(pool, queue, facts, since))


def _holds(pool: Found, queue: Found, facts: RunFacts, since: datetime) -> Iterator[RunHold]:
    """Yield the possible reasons why a run does not start, the most certain first."""
    name = shlex.quote(pool["name"])
    its_queue = f"{shlex.quote(queue['name'])} --pool {name}"
    if pool.get("is_paused"):
        reason = f"work pool {pool['name']} is paused"
        yield RunHold(f"{pool['id']}/paused", reason, f"`just prefect work-pool resume {name}`", since)
    if queue.get("is_paused"):
        reason = f"work queue {queue['name']} of work pool {pool['name']} is paused"
        yield RunHold(f"{queue['id']}/paused", reason, f"`just prefect work-queue resume {its_queue}`", since)
    if pool["name"] not in facts.online:
        reason = f"work pool {pool['name']} has no live worker"
        yield RunHold(
            f"{pool['id']}/worker", reason, "`just up` starts one; `just logs worker` says why it ended", since
        )
    for kind, one, command in (
        ("pool", pool, f"work-pool clear-concurrency-limit {name}"),
        ("queue", queue, f"work-queue clear-concurrency-limit {its_queue}"),
    ):
        if (limit := one.get("concurrency_limit")) is not None and (one.get("active_slots") or 0) >= limit:
            reason = f"work {kind} {one['name']} has {limit} of {limit} runs at once, its concurrency limit"
            mend = f"`just prefect {command}` lets more of them start"
            yield RunHold(f"{one['id']}/limit", reason, mend, since, ReportDelay.LONG if limit else ReportDelay.SHORT)
    reason = f"no worker of work pool {pool['name']} has taken it, though one is alive"
    yield RunHold(f"{pool['id']}/busy", reason, "`just logs worker` says why", since, ReportDelay.LONG)


def _without_slot(deployment: Found | None, facts: RunFacts, since: datetime) -> RunHold:
    limit = part(deployment or {}, "global_concurrency_limit").get("limit")
    reason = f"{facts.full_name(deployment)} has {limit} of {limit} runs at once, its concurrency limit"
    mend = "the runs before it have to end; `concurrency_limit` in prefect.yaml and `just deploy` change the limit"
    return RunHold(
        f"{(deployment or {}).get('id')}/limit", reason, mend, since, ReportDelay.LONG if limit else ReportDelay.SHORT
    )


def _without_queue(run: Found, deployment: Found | None, facts: RunFacts, since: datetime) -> RunHold:
    """Return what holds a run without a work queue: the queue was deleted, or the deployment never had one."""
    wanted = run.get("work_queue_name")
    if wanted and deployment is not None and deployment.get("work_queue_id"):
        # The deployment has another queue by now, but this run stays without one.
        mend = f"`just prefect flow-run cancel {run['id']}`, then run it again"
        return RunHold(f"{run['id']}/queue", f"its work queue {wanted} was deleted", mend, since, is_final=True)
    if not wanted:
        reason = f"{facts.full_name(deployment)} has no work pool, and no program that serves it has taken it"
        return RunHold(f"{run.get('deployment_id')}/served", reason, "start that program", since, ReportDelay.LONG)
    reason = f"{facts.full_name(deployment)} has no work queue any more: {wanted} was deleted"
    mend = "`just up` makes the work pool, `just deploy` gives it to the deployments; then run it again"
    return RunHold(f"{run.get('deployment_id')}/queue", reason, mend, since)
