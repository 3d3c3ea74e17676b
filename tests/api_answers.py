"""Answers of Prefect's API for the sensor's unit tests: a real HTTP server, whose data a test sets.

What Prefect itself answers is in the journeys and the crash tests; here it is what the sensor makes of it.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answers:
    """What the server has, as lists of JSON objects, and what it was told to do."""

    port: int = 0
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    artifacts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    asked: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])

    def page(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def posted(self, path: str) -> list[Any]:
        """Return the bodies that were posted to a path."""
        return [body for asked, body in self.asked if asked == path]

    def answer(self, path: str, body: Any) -> Any:
        match path.removeprefix("/api"):
            case "/events/filter":
                names = body["filter"]["event"]["name"]
                return {"events": [one for one in self.events if one["event"] in names]}
            case "/flow_runs/filter":
                return [run for run in self.runs if _is_wanted(run, body["flow_runs"])]
            case "/artifacts/filter":
                return self.artifacts
        return {}


def _is_wanted(run: dict[str, Any], wanted: dict[str, Any]) -> bool:
    ids = wanted.get("id", {}).get("any_", [run["id"]])
    types = wanted.get("state", {}).get("type", {})
    return (
        run["id"] in ids
        and run["state_type"] in types.get("any_", [run["state_type"]])
        and run["state_type"] not in types.get("not_any_", [])
    )


@contextmanager
def answering() -> Generator[Answers, None, None]:
    """Run the server for the length of a block."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answers.asked.append((self.path, body))
            said = json.dumps(answers.answer(self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    answers.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def executed_or_failed(name: str, event_id: str, **payload: str) -> dict[str, Any]:
    """Return the event of an automation's action that an event of ours has triggered."""
    return {
        "id": f"about-{event_id}",
        "event": name,
        "occurred": "2026-11-24T09:00:00+00:00",
        "resource": {"prefect.resource.id": "prefect.automation.1"},
        "related": [
            {"prefect.resource.role": "triggering-event", "prefect.resource.id": f"prefect.event.{event_id}"},
        ],
        "payload": {"action_type": "run-deployment", **payload},
    }


def flow_run(
    run_id: str, state_type: str, since: str = "2026-11-24T09:00:00+00:00", message: str = ""
) -> dict[str, Any]:
    """Return a flow run."""
    state = {"type": state_type, "name": state_type.title(), "message": message, "timestamp": since}
    return {
        "id": run_id,
        "name": f"run {run_id}",
        "state": state,
        "state_name": state["name"],
        "state_type": state_type,
    }
