"""Failed runs as the server remembers them, each as the event that Prefect emits of it, whether or not it was lost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from automations.alert_service import Happening, Resource
from sensors.runs.api import RUNS_PAGE, PrefectApi

FAILED_STATES = ("FAILED", "CRASHED", "CANCELLED")
MESSAGE_LIMIT = 100_000
"""Where Prefect cuts a state's message in its event."""
_CREATORS = {"DEPLOYMENT": "deployment", "AUTOMATION": "automation"}


@dataclass(frozen=True)
class RunState:
    """A run as the API gives it, and the event of the state that it is in."""

    run: Mapping[str, Any]
    happening: Happening


def read_failed_runs(api: PrefectApi, since: datetime) -> list[RunState]:
    """Return the runs that have failed since a time and have not been started again. Raises ApiError."""
    wanted = {"state": {"type": {"any_": FAILED_STATES}}, "end_time": {"after_": since.isoformat()}}
    return read_runs(api, wanted)


def read_runs(api: PrefectApi, wanted: Mapping[str, Any]) -> list[RunState]:
    """Return the runs that a filter of Prefect's finds, each with the event of its state. Raises ApiError."""
    runs: list[dict[str, Any]] = []
    while True:
        body = {"flow_runs": wanted, "sort": "ID_DESC", "limit": RUNS_PAGE, "offset": len(runs)}
        page = api.post("/flow_runs/filter", body)
        runs += page
        if len(page) < RUNS_PAGE:
            break
    flows = _by_id(api, "flows", [run["flow_id"] for run in runs])
    deployments = _by_id(api, "deployments", [run["deployment_id"] for run in runs if run.get("deployment_id")])
    return [
        RunState(run, happening_of(run, flows.get(run["flow_id"]), deployments.get(run.get("deployment_id") or "")))
        for run in runs
        if run.get("state")
    ]


def _by_id(api: PrefectApi, what: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    wanted = sorted({*ids})
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), RUNS_PAGE):
        some = wanted[start : start + RUNS_PAGE]
        for one in api.post(f"/{what}/filter", {what: {"id": {"any_": some}}, "limit": RUNS_PAGE}):
            found[one["id"]] = one
    return found


def happening_of(
    run: Mapping[str, Any], flow: Mapping[str, Any] | None, deployment: Mapping[str, Any] | None
) -> Happening:
    """Return the event of a run's state, as `prefect.server.models.events.flow_run_state_change_event` makes it.

    It has the state's id, so that an alert for it is the same, whoever posts it.
    """
    state: Mapping[str, Any] = run["state"]
    related = [
        _related(kind, one["id"], one["name"]) for kind, one in (("flow", flow), ("deployment", deployment)) if one
    ]
    related += [
        _related(kind, run[f"{label}_id"], run[f"{label}_name"])
        for kind, label in (("work-queue", "work_queue"), ("work-pool", "work_pool"))
        if run.get(f"{label}_id") and run.get(f"{label}_name")
    ]
    tags: set[str] = set()
    for one in (run, flow, deployment):
        tags |= {*((one or {}).get("tags") or ())}
    related += [
        Resource({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}) for tag in sorted(tags)
    ]
    related += _creator(run.get("created_by") or {})
    occurred = datetime.fromisoformat(state["timestamp"])
    return Happening(
        id=state["id"],
        event=f"prefect.flow-run.{state['name']}",
        occurred=occurred,
        resource=Resource(
            {
                "prefect.resource.id": f"prefect.flow-run.{run['id']}",
                "prefect.resource.name": run["name"],
                "prefect.run-count": str(run.get("run_count") or 0),
                "prefect.state-message": (state.get("message") or "")[:MESSAGE_LIMIT],
                "prefect.state-name": state["name"],
                "prefect.state-timestamp": occurred.isoformat(),
                "prefect.state-type": state["type"],
            }
        ),
        related=related,
    )


def _creator(created_by: Mapping[str, Any]) -> list[Resource]:
    kind = _CREATORS.get(str(created_by.get("type")))
    if kind is None:
        return []
    creator = {"prefect.resource.id": f"prefect.{kind}.{created_by['id']}", "prefect.resource.role": "creator"}
    if created_by.get("display_value"):
        creator["prefect.resource.name"] = created_by["display_value"]
    return [Resource(creator)]


def _related(kind: str, identity: str, name: str) -> Resource:
    return Resource(
        {
            "prefect.resource.id": f"prefect.{kind}.{identity}",
            "prefect.resource.role": kind,
            "prefect.resource.name": name,
        }
    )
