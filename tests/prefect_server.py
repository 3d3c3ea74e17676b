"""A real HTTP server on the loopback that answers as Prefect's API does about events, runs and artifacts.

What Prefect itself answers is in the journeys and the crash tests; here it is what the sensor makes of it.
"""

import base64
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = 200
EVENTS_PAGE = 50
LONG_AGO = "2026-01-01T00:00:00+00:00"


@dataclass
class PrefectServer:
    """What the server knows: runs and the latest artifacts, both as the API gives them."""

    port: int = 0
    status: int = 200
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    artifacts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: list[str] = field(default_factory=list[str])
    emitted: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The events that the server was sent."""
    stored: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """Flows, deployments, block_documents and automations, as the API gives them."""
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """The records of runs' logs by the run's id, the latest first."""
    states_set: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """The states that runs were given: the run's id and the state."""
    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    """All states of runs, by the run's id, as the API gives them."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def run(
        self,
        run_id: str,
        state_type: str,
        arrival_id: str | None = None,
        message: str = "",
        since: str = "2026-11-24T09:30:00Z",
    ) -> None:
        """Add a run, started for an arrival or, as by the schedule, for none; it takes the place of one of that id."""
        self.runs = [run for run in self.runs if run["id"] != run_id]
        self.runs.append(
            {
                "id": run_id,
                "name": f"run-{run_id}",
                "state_name": state_type.capitalize(),
                "state_type": state_type,
                "state": {"message": message, "timestamp": since},
                "parameters": {"arrival_id": arrival_id} if arrival_id else {},
            }
        )

    def action(self, name: str, event_id: str, **payload: str) -> None:
        """Add the event of an automation's action that an event of ours has triggered."""
        triggering = {"prefect.resource.role": "triggering-event", "prefect.resource.id": f"prefect.event.{event_id}"}
        self.events.append(
            {
                "id": f"about-{event_id}",
                "event": name,
                "occurred": "2026-11-24T09:00:00+00:00",
                "resource": {"prefect.resource.id": "prefect.automation.1"},
                "related": [triggering],
                "payload": {"action_type": "run-deployment", **payload},
            }
        )

    def report(self, arrival_id: str, run_id: str, **outcomes: str) -> None:
        """Add the table that a run left of an arrival: an outcome for each file, whose name ends with `.csv`."""
        table = [
            {"file": f"{name}.csv", "outcome": outcome, "rows": 3 * (outcome != "rejected"), "reason": ""}
            | ({"reason": "line 3: surplus"} if outcome == "rejected" else {})
            for name, outcome in outcomes.items()
        ]
        found = {"key": f"arrival-{arrival_id}", "flow_run_id": run_id, "type": "table", "data": json.dumps(table)}
        self.artifacts.append({**found, "created": "2026-11-24T09:29:59Z"})

    def failed_run(
        self, run_id: str, at: datetime, state: str = "Failed", message: str = "boom", **more: Any
    ) -> dict[str, Any]:
        """Add a run that has failed, of a flow and a deployment that the server knows; return it."""
        name = state.upper() if state in {"Failed", "Crashed"} else "FAILED"
        stamp = at.isoformat()
        run = {
            "id": run_id,
            "name": f"run-{run_id}",
            "flow_id": "flow-1",
            "deployment_id": "deployment-1",
            "state_name": state,
            "state_type": name,
            "state": {"id": f"state-{run_id}", "name": state, "type": name, "message": message, "timestamp": stamp},
            "expected_start_time": stamp,
            "end_time": stamp,
            "run_count": 1,
            "tags": [],
            "parameters": {},
            **more,
        }
        self.runs.append(run)
        self.know_deployment()
        return run

    def know_deployment(self, **more: Any) -> dict[str, Any]:
        """Have a deployment and its flow, with a work pool that has a live worker; return the deployment."""
        deployment = {
            "id": "deployment-1",
            "name": "production-etl",
            "flow_id": "flow-1",
            "tags": ["env:prod"],
            "paused": False,
            "schedules": [],
            "updated": LONG_AGO,
            "work_pool_name": "local-process-pool",
            "work_queue_id": "queue-1",
            "work_queue_name": "default",
            **more,
        }
        known = {"flows": {"id": "flow-1", "name": "Enterprise Data Pipeline", "tags": []}, "deployments": deployment}
        known["work_pools"] = {"id": "pool-1", "name": "local-process-pool", "is_paused": False}
        known["work_queues"] = {"id": "queue-1", "name": "default", "is_paused": False, "work_pool_id": "pool-1"}
        for kind, one in known.items():
            others = [other for other in self.stored.get(kind, []) if other["id"] != one["id"]]
            kept = [other for other in self.stored.get(kind, []) if other["id"] == one["id"]]
            self.stored[kind] = [*others, one if more or not kept else kept[0]]
        self.stored.setdefault("workers", [{"name": "w", "status": "ONLINE"}])
        return deployment

    def answer(self, path: str, body: Any) -> Any:
        """Return what the API would return."""
        self.asked.append(path)
        if path == "/api/events":
            self.emitted += body
            return None
        if path.endswith("/set_state"):
            self.states_set.append((path.split("/")[-2], body["state"]))
            return {}
        if path.startswith("/api/flow_runs/") and path.rpartition("/")[2] in {run["id"] for run in self.runs}:
            next(run for run in self.runs if path.endswith(f"/{run['id']}")).update(body)
            return None
        if path == "/api/events/filter":
            assert body["limit"] <= EVENTS_PAGE, "Prefect refuses more"
            return self.page_of_events(body["filter"], body["limit"], 0)
        if path.startswith("/api/events/filter/next"):
            return self.page_of_events(**json.loads(base64.b64decode(path.partition("?page-token=")[2])))
        return self.listed(path, body)

    def page_of_events(self, wanted: dict[str, Any], limit: int, offset: int) -> dict[str, Any]:
        """Return events, the latest first, and the link of the next page if there is one."""
        found = sorted(
            (one for one in self.events if _is_wanted(one, wanted)), key=lambda one: one["occurred"], reverse=True
        )
        token = base64.b64encode(json.dumps({"wanted": wanted, "limit": limit, "offset": offset + limit}).encode())
        link = f"http://another-name.example{self.url.partition(str(self.port))[2]}/events/filter/next?page-token="
        is_last = offset + limit >= len(found)
        return {"events": found[offset : offset + limit], "next_page": None if is_last else link + token.decode()}

    def listed(self, path: str, body: Any) -> Any:
        """Return what the API would return of what it lists."""
        if path.startswith("/api/flow_run_states/"):
            return self.histories.get(path.rpartition("=")[2], [])
        if path == "/api/logs/filter":
            [run_id] = body["logs"]["flow_run_id"]["any_"]
            return self.logs.get(run_id, [])[: body["limit"]]
        limit, offset = body["limit"], body.get("offset", 0)
        assert limit <= PAGE, "Prefect refuses more"
        if path == "/api/flow_runs/filter":
            found = [run for run in self.runs if _matches(run, body["flow_runs"])]
        elif path.endswith("/workers/filter"):
            found = self.stored.get("workers", [])
        elif (kind := path.split("/")[2]) in STORED:
            ids = body.get(kind, {}).get("id", {}).get("any_")
            found = [one for one in self.stored.get(kind, []) if ids is None or one["id"] in ids]
        else:
            assert path in {"/api/artifacts/latest/filter", "/api/artifacts/filter"}
            found = [one for one in self.artifacts if one["key"] in body["artifacts"]["key"]["any_"]]
        return found[offset : offset + limit]


def _is_wanted(event: dict[str, Any], wanted: dict[str, Any]) -> bool:
    names = wanted.get("event", {}).get("name")
    if names is not None and event["event"] not in names:
        return False
    resource, resources = event["resource"].get("prefect.resource.id"), wanted.get("resource", {}).get("id")
    if resource is None or resources is None:
        return True
    since = datetime.fromisoformat(wanted["occurred"]["since"])
    return resource in resources and datetime.fromisoformat(event["occurred"]) >= since


STORED = ("flows", "deployments", "block_documents", "automations", "work_pools", "work_queues")
_LATEST = datetime.max.replace(tzinfo=UTC)
_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _in_span(moment: str | None, span: dict[str, str] | None) -> bool:
    if span is None:
        return True
    after, before = span.get("after_"), span.get("before_")
    at = None if moment is None else datetime.fromisoformat(moment)
    return at is not None and (
        (datetime.fromisoformat(after) if after else _EARLIEST)
        <= at
        <= (datetime.fromisoformat(before) if before else _LATEST)
    )


def _matches(run: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if not _in_span(run.get("expected_start_time"), wanted.get("expected_start_time")):
        return False
    deployments = wanted.get("deployment_id", {}).get("any_")
    if deployments is not None and run.get("deployment_id") not in deployments:
        return False
    creators = wanted.get("created_by", {}).get("type_")
    if creators is not None and run.get("created_by") and run["created_by"]["type"] not in creators:
        return False
    ids = wanted.get("id", {}).get("any_")
    types = wanted.get("state", {}).get("type", {})
    ended_after = wanted.get("end_time", {}).get("after_")
    if ended_after and not _in_span(run.get("end_time"), {"after_": ended_after}):
        return False
    only, unless = types.get("any_"), types.get("not_any_", [])
    return (
        (ids is None or run["id"] in ids)
        and (only is None or run["state_type"] in only)
        and run["state_type"] not in unless
    )


@contextmanager
def prefect_answering() -> Generator[PrefectServer, None, None]:
    """Answer for the length of a block."""
    prefect = PrefectServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            answer = json.dumps(prefect.answer(self.path, body)).encode()
            self.send_response(prefect.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PATCH = do_POST  # noqa: N815 - the names are the base class's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    prefect.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield prefect
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
