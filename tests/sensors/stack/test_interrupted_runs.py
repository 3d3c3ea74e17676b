"""What becomes of runs that were at work when the stack went down."""

import json
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sensors.config.settings import Settings
from sensors.stack import orphaned_runs
from sensors.stack.errors import StackError
from sensors.stack.orphaned_runs import WorkerDeath, is_of, is_orphaned, next_state, restart_orphaned_runs
from sensors.stack.stop import StopRequest, StopRequestedError
from tests.free_ports import free_ports

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


def run(state_type, since=NOW):
    return {"id": "1", "state_type": state_type, "state": {"timestamp": since.isoformat()}}


def test_a_run_that_was_at_work_starts_again_at_once():
    state = next_state(run("RUNNING"), NOW)
    assert (state["type"], state["name"]) == ("SCHEDULED", "AwaitingRetry")
    assert state["state_details"] == {"scheduled_time": NOW.isoformat()}


def test_a_run_that_was_being_cancelled_is_cancelled_and_not_started_again():
    assert next_state(run("CANCELLING"), NOW)["type"] == "CANCELLED"


def test_a_run_that_changed_its_state_since_this_start_is_alive():
    assert is_orphaned(run("PENDING", NOW - timedelta(seconds=1)), WorkerDeath(NOW))
    assert not is_orphaned(run("PENDING", NOW + timedelta(seconds=1)), WorkerDeath(NOW))


def test_with_several_machines_each_restarts_only_the_runs_known_to_be_of_its_own_workers():
    given = {"profile": "scale", "database_url": "postgresql://db/prefect", "redis_url": "redis://cache"}
    here = Settings(node_name="here", **given)
    assert is_of(here, "here-2")
    assert is_of(here, "here-17")  # of a start that had more workers
    assert not is_of(here, "there-1")
    assert not is_of(here, "here-and-there-1")
    assert not is_of(here, None)  # it may just be starting on another machine


def test_on_a_machine_by_itself_every_run_is_its_own():
    assert is_of(Settings(), "what-this-machine-was-called-yesterday")


# -- a server that has just started


class JustStarted:
    """A server with one orphaned run, that may fail for a while first."""

    def __init__(self) -> None:
        self.trouble: list[int | None] = []
        """What the next requests get in place of an answer: a status, or with None nothing in time."""
        self.started_again: list[str] = []
        self.over = threading.Event()

    def answer(self, path: str) -> tuple[int, object]:
        if self.trouble:
            status = self.trouble.pop(0)
            if status is None:
                self.over.wait(10)
            return status or 200, []
        if path.endswith("/filter"):
            return 200, [] if self.started_again else [run("RUNNING") | {"id": "otter", "labels": {}}]
        self.started_again.append(path.split("/")[3])
        return 200, {}


@pytest.fixture
def server() -> Generator[tuple[JustStarted, Settings]]:
    started = JustStarted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, document = started.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if not started.over.is_set():
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield started, Settings(api_port=listening.server_port)
    started.over.set()
    listening.shutdown()
    thread.join()
    listening.server_close()


def at_once(_seconds: float) -> None:
    """Pause for no time."""


def test_a_server_that_is_busy_after_its_start_is_asked_again(server, monkeypatch):
    started, settings = server
    monkeypatch.setattr(orphaned_runs, "ANSWER_SECONDS", 0.3)
    started.trouble = [503, None, 500]
    assert restart_orphaned_runs(settings, NOW + timedelta(seconds=1), at_once) == 1
    assert started.started_again == ["otter"]


def test_a_run_whose_answer_was_lost_is_counted_once(server):
    started, settings = server
    answers = started.answer

    def lose_the_first(path: str) -> tuple[int, object]:
        answer = answers(path)
        return (502, {}) if path.endswith("set_state") else answer

    started.answer = lose_the_first
    assert restart_orphaned_runs(settings, NOW + timedelta(seconds=1), at_once) == 1
    assert started.started_again == ["otter"]


def test_a_server_that_stays_busy_is_given_up_and_a_stop_meanwhile_does_not_wait(server, monkeypatch):
    started, settings = server
    started.trouble = [503] * 1000
    stop = StopRequest()
    stop.ask()
    with pytest.raises(StopRequestedError):
        restart_orphaned_runs(settings, NOW, stop.pause)
    monkeypatch.setattr(orphaned_runs, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(StackError, match=r"orphaned runs cannot be started again.*503"):
        restart_orphaned_runs(settings, NOW, at_once)


def test_a_server_that_is_not_there_is_reported_immediately():
    with pytest.raises(StackError, match="orphaned runs cannot be started again"):
        restart_orphaned_runs(Settings(api_port=free_ports(1)[0]), NOW, pytest.fail)
