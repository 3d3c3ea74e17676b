"""Every kind of alert, set off for real, reaches a receiver.

The automations are those of the files; only how long they wait is shortened on the server, as a person could on its
page. What is here takes its time side by side: first everything is set off, then it is waited for.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.free_ports import free_ports
from tests.journeys.stack import Stack, flow_process_of, wait_until
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.long

SHORTENED = {"alert-on-late-run": 10, "alert-on-long-run": 10, "alert-on-silent-sensor": 25}
SHORTENED |= {"alert-on-pool-without-worker": 10}
INBOXES = """\
inboxes:
  metrics: {}
  daily:
    expect: {cron: "* * * * *", timezone: UTC}
"""


@dataclass
class Alarm:
    """A stack, where its alerts go, and where those go that do not get through."""

    stack: Stack
    receiver: Receiver
    fallback: Receiver

    def count(self, title: str) -> int:
        """Return how many alerts have a title like this."""
        return len(self.receiver.naming(title))

    def reported(self, *texts: str, seconds: float = 150) -> dict[str, Any]:
        """Return the alert in which all of these stand, as soon as it has come."""

        def look() -> dict[str, Any] | None:
            found = [post for post in self.receiver.naming(texts[0]) if all(one in f"{post}" for one in texts)]
            return found[0] if found else None

        return wait_until(look, f"an alert came with {texts}", seconds)


@pytest.fixture(scope="module")
def alarm(tmp_path_factory: pytest.TempPathFactory, new_stack: Callable[..., Stack]) -> Iterator[Alarm]:
    folder = tmp_path_factory.mktemp("alarm")
    inboxes = folder / "inboxes.yaml"
    inboxes.write_text(INBOXES)
    (closed_port,) = free_ports(1)
    with receiving() as receiver, receiving() as fallback:
        stack = new_stack(
            folder / "state",
            INBOXES_FILE=str(inboxes),
            NOTIFY_URLS=receiver.url(),
            NOTIFY_FALLBACK_URLS=fallback.url("fallback"),
            NOTIFY_ROUTES=f"team:nobody=json://127.0.0.1:{closed_port}/dead",
            SERVER_SILENT_SECONDS="5",
            RUN_STUCK_SECONDS="35",
        ).start()
        try:
            shorten(stack)
            shortened = datetime.now(UTC)
            # From its next heartbeat on the sensor's silence is noticed.
            wait_until(lambda: heartbeats(stack, shortened), "a heartbeat has come", 120)
            yield Alarm(stack, receiver, fallback)
        finally:
            stack.stop()


def shorten(stack: Stack) -> None:
    """Have the automations that wait for the absence of something wait for less."""
    automations = stack.api.post("/automations/filter", json={}).raise_for_status().json()
    for one in automations:
        if within := SHORTENED.get(one["name"]):
            body = {name: one[name] for name in ("name", "description", "enabled", "tags", "trigger", "actions")}
            body["trigger"]["within"] = within
            stack.api.put(f"/automations/{one['id']}", json=body).raise_for_status()


def heartbeats(stack: Stack, since: datetime) -> list[Any]:
    wanted = {"event": {"name": ["sensor.heartbeat"]}, "occurred": {"since": since.isoformat()}}
    return stack.api.post("/events/filter", json={"filter": wanted}).raise_for_status().json()["events"]


def scheduled_run(stack: Stack, **more: Any) -> str:
    """Make a run as the schedule makes it, and return its id."""
    body = {"tags": ["auto-scheduled"], "state": {"type": "SCHEDULED", "name": "Scheduled"}, **more}
    answer = stack.api.post(f"/deployments/{stack.deployment()['id']}/create_flow_run", json=body)
    return answer.raise_for_status().json()["id"]


def test_runs_that_do_not_start_do_not_end_or_give_no_sign_of_life_are_reported(alarm: Alarm):
    stack = alarm.stack
    pool = "/work_pools/local-process-pool"
    stack.api.post(f"{pool}/queues", json={"name": "closed_port", "is_paused": True}).raise_for_status()
    late = scheduled_run(stack, work_queue_name="closed_port")
    in_time = scheduled_run(stack, parameters={"source_url": "invalid://at-nine"})
    with alarm.receiver.holding("/long") as url:
        long = scheduled_run(stack, parameters={"source_url": url})
        wait_until(lambda: stack.run(long)["state_name"] == "Running", "the long run is under way", 150)
        process = wait_until(lambda: flow_process_of(long), "the long run has a process", pause=0.05)
        alarm.reported("Still running", stack.run(long)["name"])
        process.send_signal(signal.SIGSTOP)
        try:
            reported = alarm.reported("Not started", stack.run(late)["name"])
            assert f"/runs/flow-run/{late}" in reported["message"]
            reported = alarm.reported("No sign of life", stack.run(long)["name"])
            assert f"/runs/flow-run/{long}" in reported["message"]
        finally:
            process.send_signal(signal.SIGCONT)
    stack.wait_for_end(in_time)
    alarm.reported("Failed", in_time)
    assert not [one for one in alarm.receiver.naming(stack.run(in_time)["name"]) if "Not started" in one["title"]]


def test_a_failed_a_crashed_and_a_timed_out_run_are_reported_once_each(alarm: Alarm):
    stack = alarm.stack
    failed = stack.run_now({"source_url": "invalid://url"})
    with alarm.receiver.holding("/crashing") as url:
        crashed = stack.run_now({"source_url": url})
        process = wait_until(lambda: flow_process_of(crashed), "the flow has a process", 150, pause=0.05)
        wait_until(lambda: stack.run(crashed)["state_name"] == "Running", "the run is under way", 150)
        process.kill()
    timed_out = scheduled_run(stack, work_queue_name="closed_port")
    state = {"type": "FAILED", "name": "TimedOut", "message": "Flow run exceeded timeout of 60.0 second(s)"}
    stack.api.post(f"/flow_runs/{timed_out}/set_state", json={"state": state, "force": True}).raise_for_status()
    for run, title in ((failed, "Failed"), (crashed, "Crashed"), (timed_out, "TimedOut")):
        assert alarm.reported(run)["title"].startswith(title)
    assert [len(alarm.receiver.naming(run)) for run in (failed, crashed, timed_out)] == [1, 1, 1]


def test_refused_overdue_and_stalled_are_reported(alarm: Alarm):
    stack = alarm.stack
    alarm.reported("Inbox daily is overdue")
    (stack.state_dir / "inbox" / "daily" / "orders.csv").write_text("overdue\n1\n")
    stack.drop("picture.png", "not for us")
    alarm.reported("picture.png")
    assert alarm.reported("Inbox daily has its files")["type"] == "success"
    # That an arrival gets no run takes minutes to be noticed: tests/crashes/test_no_run.py. Here it is what follows.
    stalled = {
        "id": "00000000-0000-4000-8000-000000000001",
        "event": "inbox.arrival.stalled",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": "inbox.notice.1", "prefect.resource.name": "metrics"},
        "payload": {"inbox": "metrics", "subject": "Arrival a-1 has no run", "text": "Reason: none"},
    }
    stack.api.post("/events", json=[stalled]).raise_for_status()
    assert "Reason: none" in alarm.reported("Arrival a-1 has no run")["message"]


def test_a_channel_that_takes_no_alert_is_reported_to_the_fallback_and_so_is_the_alert(alarm: Alarm):
    stack = alarm.stack
    run = scheduled_run(stack, tags=["team:nobody"], work_queue_name="closed_port")
    state = {"type": "FAILED", "message": "told to nobody"}
    stack.api.post(f"/flow_runs/{run}/set_state", json={"state": state, "force": True}).raise_for_status()
    wait_until(lambda: alarm.fallback.naming(run), "the fallback has the alert", 150)
    wait_until(
        lambda: alarm.fallback.naming("Alerts are not delivered to team:nobody 1 (JSON)"), "and why is reported", 150
    )
    assert alarm.receiver.naming(run) == []
    status = stack.command("sensors", "status").stdout
    assert "alerts are not delivered to team:nobody 1 (JSON) since" in status
    assert "/dead" not in status


def test_a_silent_worker_sensor_and_server_are_reported_and_so_is_that_they_are_back(alarm: Alarm):
    stack = alarm.stack
    worker, sensor = stack.service("flows.forkserver.worker"), stack.service("sensors", "run")
    for process in (worker, sensor):
        process.send_signal(signal.SIGSTOP)
    try:
        alarm.reported("The sensor is silent")
        alarm.reported("No live worker")
    finally:
        for process in (worker, sensor):
            process.send_signal(signal.SIGCONT)
    assert alarm.reported("The sensor is back")["type"] == "success"
    assert alarm.reported("A worker is back")["type"] == "success"
    server = stack.service("server", "start")
    server.send_signal(signal.SIGSTOP)
    try:
        assert "timed out" in alarm.reported("The Prefect server is silent")["message"]
    finally:
        server.send_signal(signal.SIGCONT)
    alarm.reported("The Prefect server answers again")
    # Prefect's server has been seen to be silent by itself for a minute, its SQLite being locked.
    for silent, back in (
        ("The sensor is silent", "The sensor is back"),
        ("No live worker", "A worker is back"),
        ("The Prefect server is silent", "The Prefect server answers again"),
    ):
        wait_until(lambda pair=(silent, back): alarm.count(pair[0]) == alarm.count(pair[1]), f"as often {back}", 120)
