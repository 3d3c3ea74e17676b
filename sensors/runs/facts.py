"""Read the runs that are due from the server, with the deployments, work pools and queues that they depend on.

A server may also have the deployments of other projects; `our_deployments` returns this project's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import yaml

from sensors.runs.api import RUNS_PAGE, PrefectApi

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
    runs = api.pages("/flow_runs/filter", body, MOST_RUNS)
    deployments = _by_id(api.pages("/deployments/filter", {}))
    flows = by_ids(api, "flows", {one["flow_id"] for one in (*runs, *deployments.values())})
    if not any(one["state_type"] != "RUNNING" for one in runs):
        return RunFacts(tuple(runs), flows, deployments)
    pools = _by_id(api.pages("/work_pools/filter", {}))
    queues = _by_id(api.pages("/work_queues/filter", {}))
    wanted = {one.get("work_pool_name") for one in runs if one["state_type"] != "RUNNING"}
    names = [str(one["name"]) for one in pools.values() if one["name"] in wanted]
    online = frozenset(name for name in names if _has_worker(api, name))
    return RunFacts(tuple(runs), flows, deployments, pools, queues, online)


def by_ids(api: PrefectApi, what: str, ids: Iterable[str]) -> dict[str, Found]:
    """Return those of Prefect's objects, such as `deployments`, that have one of these ids; a request for each page."""
    wanted = sorted(set(ids))
    found: dict[str, Found] = {}
    for start in range(0, len(wanted), RUNS_PAGE):
        some = {"id": {"any_": wanted[start : start + RUNS_PAGE]}}
        found |= _by_id(api.post(f"/{what}/filter", {what: some, "limit": RUNS_PAGE}))
    return found


def _by_id(found: Iterable[Found]) -> dict[str, Found]:
    return {one["id"]: one for one in found}


def _has_worker(api: PrefectApi, pool: str) -> bool:
    """Return whether a work pool has a live worker, as Prefect sees it: it may miss three heartbeats."""
    workers = api.post(f"/work_pools/{quote(pool, safe='')}/workers/filter", {"limit": RUNS_PAGE})
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
