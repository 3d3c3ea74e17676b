"""The server's facts about runs: which are due, what holds them, and which are lost.

A run is *lost* if the server shows it as at work and has had no heartbeat of it for too long: its process or machine
has died, or it hangs. (An *orphaned* run has no process on this machine, see `sensors.stack.orphaned_runs`.)

A server may also have the deployments of other projects; `our_deployments` returns this project's.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import yaml

from sensors.runs.api import RUN_RESOURCE, PrefectApi, Run
from sensors.runtime.clock import Clock

UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
"""State types of a run that has not ended."""
MOST_RUNS = 1000
"""How many unfinished runs to read, the oldest first: with more of them something holds the first ones too."""

Found: TypeAlias = Mapping[str, Any]
"""An object as Prefect's API returns it."""


def part(found: Found, name: str) -> Found:
    """Return an object inside another one, such as a run's state; empty if there is none."""
    return found.get(name) or {}


def parts(found: Found, name: str) -> list[Found]:
    """Return the objects of a list inside another one, such as a deployment's schedules."""
    return found.get(name) or []


@dataclass(frozen=True)
class RunFacts:
    """One reading of the server; everything except the runs is keyed by its id."""

    runs: tuple[Found, ...] = ()
    """The unfinished runs that are due, the oldest first."""
    flows: Mapping[str, Found] = field(default_factory=dict[str, Found])
    deployments: Mapping[str, Found] = field(default_factory=dict[str, Found])
    """All deployments on the server, those of other projects included."""
    pools: Mapping[str, Found] = field(default_factory=dict[str, Found])
    queues: Mapping[str, Found] = field(default_factory=dict[str, Found])
    online: frozenset[str] = frozenset()
    """The names of the work pools with a live worker, among those that waiting runs need."""

    def deployment_of(self, run: Found) -> Found | None:
        """Return a run's deployment, or None."""
        return self.deployments.get(run.get("deployment_id") or "")

    def flow_of(self, one: Found) -> Found | None:
        """Return the flow of a run or of a deployment, or None."""
        return self.flows.get(one.get("flow_id") or "")

    def full_name(self, deployment: Found | None) -> str:
        """Return a deployment's name as Prefect's commands take it: `flow/deployment`."""
        if deployment is None:
            return "a deployment that was deleted"
        flow = self.flow_of(deployment)
        return f"{flow['name'] if flow else '?'}/{deployment['name']}"


def read_run_facts(api: PrefectApi, now: datetime) -> RunFacts:
    """Read the server: three requests, and some more while runs wait. Raises ApiError."""
    due = {"state": {"type": {"any_": UNFINISHED}}, "expected_start_time": {"before_": now.isoformat()}}
    body = {"flow_runs": due, "sort": "EXPECTED_START_TIME_ASC"}
    runs = list(islice(api.results("/flow_runs/filter", body), MOST_RUNS))
    deployments = _by_id(api.results("/deployments/filter", {}))
    flows = api.by_ids("flows", {one["flow_id"] for one in (*runs, *deployments.values())})
    if not any(one["state_type"] != "RUNNING" for one in runs):
        return RunFacts(tuple(runs), flows, deployments)
    pools = _by_id(api.results("/work_pools/filter", {}))
    queues = _by_id(api.results("/work_queues/filter", {}))
    wanted = {one.get("work_pool_name") for one in runs if one["state_type"] != "RUNNING"}
    names = [str(one["name"]) for one in pools.values() if one["name"] in wanted]
    online = frozenset(name for name in names if _has_worker(api, name))
    return RunFacts(tuple(runs), flows, deployments, pools, queues, online)


def _by_id(found: Iterable[Found]) -> dict[str, Found]:
    return {one["id"]: one for one in found}


def _has_worker(api: PrefectApi, pool: str) -> bool:
    """Return whether a work pool has a live worker, as Prefect sees it: it may miss three heartbeats."""
    workers = api.results(f"/work_pools/{quote(pool, safe='')}/workers/filter", {})
    return any(one.get("status") == "ONLINE" for one in workers)


def our_deployments(facts: RunFacts, root: Path) -> frozenset[str]:
    """Return the ids of the deployments that prefect.yaml names, or that use a work pool named there.

    The latter may have been created by hand; the former stay this project's when their work pool is deleted.
    """
    names, pools = _in_file(root)
    return frozenset(
        one["id"]
        for one in facts.deployments.values()
        if one["name"] in names or (one.get("work_pool_name") or "") in pools
    )


def _in_file(root: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of deployments and work pools in prefect.yaml; none if it cannot be read."""
    try:
        written: Any = yaml.safe_load((root / "prefect.yaml").read_text("utf-8"))
        deployments: list[Mapping[str, Any]] = written.get("deployments") or []
        names = frozenset(str(one["name"]) for one in deployments)
        pools = frozenset(str(one["work_pool"]["name"]) for one in deployments if one.get("work_pool"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return frozenset(), frozenset()
    return names, pools


HEARTBEAT = "prefect.flow-run.heartbeat"
"""Sent by Prefect's engine every PREFECT_FLOWS_HEARTBEAT_FREQUENCY seconds: 30 here, the minimum."""
SILENT_FOR = timedelta(seconds=100)
UNSTARTED_FOR = timedelta(seconds=120)
"""How long a run may be Pending: its process starts in seconds, on a busy machine within half a minute."""


@dataclass(frozen=True)
class LostRuns:
    """Finds lost runs.

    A run gets its full time again after the server was unreachable, as no heartbeat could reach it, and after a
    suspension of this process, as the run may have been suspended as well.
    """

    api: PrefectApi
    clock: Clock

    def why_lost(self, run: Run) -> str:
        """Return why a run of ours is lost, or an empty string. Raises ApiError."""
        now = self.clock.utc()
        if run.state_type == "PENDING" and self._has_lasted(UNSTARTED_FOR, run.since, now):
            return f"its process has not started for {UNSTARTED_FOR.seconds} s"
        if run.state_type == "RUNNING" and self.is_lost(run.id, run.since, now, SILENT_FOR):
            return f"its process has given no sign of life for {SILENT_FOR.seconds} s"
        return ""

    def is_lost(self, run_id: str, since: datetime, now: datetime, limit: timedelta) -> bool:
        """Return whether a run, running since a time, has sent no heartbeat for `limit`. Raises ApiError."""
        if not self._has_lasted(limit, since, now):
            return False
        if self.api.has_event(HEARTBEAT, f"{RUN_RESOURCE}{run_id}", since=now - limit):
            return False
        # Evidence from before a suspension says nothing about the time after it.
        return self.clock.not_before_resumed(now) == now

    def _has_lasted(self, limit: timedelta, since: datetime, now: datetime) -> bool:
        return now - self.clock.not_before_resumed(max(since, self.api.unreached_at or since)) >= limit


# Why a run does not start, continue or end: what holds it, and the command that fixes that.
#
# Pure functions on the facts from one reading of the server.

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
