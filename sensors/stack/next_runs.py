"""The next runs: when each deployment of our work pool runs next, as Prefect has planned it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from sensors.config.settings import Settings
from sensors.stack.api import open_api
from sensors.stack.services import WORK_POOL

_DEPLOYMENTS_A_PAGE = 200
SCHEDULED = "Scheduled"
PAUSED = "paused"


@dataclass(frozen=True)
class NextRun:
    """When a deployment runs next (UTC), None while its schedules are paused; `state` is Prefect's word or `paused`."""

    deployment: str
    at: datetime | None
    state: str = SCHEDULED


def read_next_runs(settings: Settings) -> tuple[NextRun, ...]:
    """Return the next run of each deployment that has one or should have one, the soonest first.

    Empty while there is no usable answer: what is wrong with the server then the status tells anyway.
    """
    pool = {"work_pools": {"name": {"any_": [WORK_POOL]}}}
    planned = {
        **pool,
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "NEXT_SCHEDULED_START_TIME_ASC",
        "limit": _DEPLOYMENTS_A_PAGE,
    }
    try:
        with open_api(settings) as api:
            deployments = (
                api.post("/deployments/filter", json={**pool, "limit": _DEPLOYMENTS_A_PAGE}).raise_for_status().json()
            )
            runs = api.post("/flow_runs/filter", json=planned).raise_for_status().json()
        return next_runs(deployments, runs)
    except (httpx.HTTPError, ValueError, LookupError):
        return ()


def next_runs(deployments: Iterable[Mapping[str, Any]], runs: Iterable[Mapping[str, Any]]) -> tuple[NextRun, ...]:
    """Return each deployment's next run out of what the API knows of both; runs come the soonest first."""
    first: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        # Those that arrivals have led to are due at once, and are told as in flight.
        parameters: Mapping[str, Any] = run.get("parameters") or {}
        if not parameters.get("arrival_id"):
            first.setdefault(run["deployment_id"], run)
    found = [next_run for one in deployments if (next_run := _next_run(one, first.get(one["id"]))) is not None]
    return tuple(sorted(found, key=lambda one: (one.at is None, one.at and one.at.timestamp(), one.deployment)))


def _next_run(deployment: Mapping[str, Any], run: Mapping[str, Any] | None) -> NextRun | None:
    if run is not None:
        at = run.get("next_scheduled_start_time") or run["expected_start_time"]
        return NextRun(deployment["name"], datetime.fromisoformat(at), run.get("state_name") or SCHEDULED)
    schedules: list[Mapping[str, Any]] = deployment.get("schedules") or []
    if schedules and (deployment.get("paused") or not any(one.get("active") for one in schedules)):
        return NextRun(deployment["name"], None, PAUSED)
    return None
