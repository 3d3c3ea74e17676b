"""What Prefect has recorded of a run: when its event, its states and its log lines were."""

from datetime import datetime

import httpx

PAGE = 200
TERMINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def event_times(api: httpx.Client, resource_id: str, since: datetime) -> tuple[datetime, datetime]:
    """Return when the first event about a resource occurred and when the server received it."""
    wanted = {"resource": {"id": [resource_id]}, "occurred": {"since": since.isoformat()}}
    found = api.post("/events/filter", json={"filter": {**wanted, "order": "ASC"}}).raise_for_status().json()["events"]
    if not found:
        raise LookupError(f"expected an event about {resource_id}, Prefect has none")
    return moment(found[0]["occurred"]), moment(found[0]["received"])


def created_at(api: httpx.Client, run_id: str) -> datetime:
    """Return when a run was created."""
    return moment(api.get(f"/flow_runs/{run_id}").raise_for_status().json()["created"])


def state_times(api: httpx.Client, run_id: str) -> dict[str, datetime]:
    """Return when a run first had each type of state."""
    states = api.get("/flow_run_states/", params={"flow_run_id": run_id}).raise_for_status().json()
    by_time = sorted(states, key=lambda one: one["timestamp"])
    return {one["type"]: moment(one["timestamp"]) for one in reversed(by_time)}


def committed_at(api: httpx.Client, run_id: str, line: str) -> datetime:
    """Return when a run last logged that its rows are committed; `line` is what it says then.

    Of a run whose line is not among its last, or was lost, it is when the run ended, which is later.
    """
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_DESC", "limit": PAGE}
    for one in api.post("/logs/filter", json=wanted).raise_for_status().json():
        if one["message"] == line:
            return moment(one["timestamp"])
    return ended_at(api, run_id)


def ended_at(api: httpx.Client, run_id: str) -> datetime:
    """Return when a run ended; raises LookupError if it has not."""
    times = [at for kind, at in state_times(api, run_id).items() if kind in TERMINAL]
    if not times:
        raise LookupError(f"expected that run {run_id} has ended, it has not")
    return max(times)


def moment(text: str) -> datetime:
    """Return a timestamp of Prefect's."""
    return datetime.fromisoformat(text)
