"""Runs that do not start, are cancelled, deleted or fail are said, and each arrival ends loaded or rings once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.journeys.stack import CREDENTIALS, Stack, wait_until
from tests.receiver import Receiver, receiving

pytestmark = pytest.mark.long

POOL = "/work_pools/local-process-pool"


@dataclass
class Alarm:
    """A stack and where its alerts go."""

    stack: Stack
    receiver: Receiver

    def status(self) -> tuple[int, str]:
        """Return the exit status of `just status`, and what it prints."""
        done = self.stack.command("sensors", "status")
        return done.returncode, done.stdout

    def said(self, text: str, seconds: float = 200) -> str:
        """Return the line of the status in which a text stands, as soon as there is one."""

        def look() -> str | None:
            status, printed = self.status()
            found = [line for line in printed.splitlines() if text in line]
            return found[0] if status == 1 and found else None

        return wait_until(look, f"the status says {text}", seconds, pause=5)  # each look takes a second of CPU


@pytest.fixture(scope="module")
def alarm(tmp_path_factory: pytest.TempPathFactory, new_stack: Callable[..., Stack]) -> Iterator[Alarm]:
    with receiving() as receiver:
        stack = new_stack(tmp_path_factory.mktemp("waiting") / "state", NOTIFY_URLS=receiver.url()).start()
        try:
            yield Alarm(stack, receiver)
        finally:
            stack.stop()


def waiting_run(stack: Stack, arrival: str) -> dict[str, Any] | None:
    """Return the unfinished run of an arrival, if it has one."""
    runs = stack.api.post("/flow_runs/filter", json={"sort": "START_TIME_DESC"}).raise_for_status().json()
    found = [run for run in runs if run["parameters"].get("arrival_id") == arrival and run["state_type"] == "SCHEDULED"]
    return found[0] if found else None


def taken(alarm: Alarm, name: str) -> str:
    """Drop a file and return the id of its arrival once it has a run that waits."""
    alarm.stack.drop(name, f"{name.partition('.')[0]}\n1\n")
    pattern = alarm.stack.state_dir / "arrivals"
    arrival = wait_until(lambda: [one.parent.name for one in pattern.rglob(name)], f"{name} is taken", 60)[0]
    wait_until(lambda: waiting_run(alarm.stack, arrival), f"{name} has a run", 60)
    return arrival


@pytest.mark.timeout(900)
def test_a_paused_pool_a_cancelled_a_deleted_and_a_limited_run_are_said_and_no_arrival_is_forgotten(alarm: Alarm):
    stack, receiver = alarm.stack, alarm.receiver
    stack.api.patch(POOL, json={"is_paused": True}).raise_for_status()
    cancelled, deleted = taken(alarm, "cancelled.csv"), taken(alarm, "deleted.csv")

    line = alarm.said("work pool local-process-pool is paused")
    assert "`just prefect work-pool resume local-process-pool`" in line

    # A person cancels the one on purpose, and deletes the other: no worker had taken it, so it is started again.
    run = waiting_run(stack, cancelled)
    assert run is not None
    stack.api.post(f"/flow_runs/{run['id']}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
    wait_until(lambda: receiver.naming(f"Arrival {cancelled} failed"), "the cancelled arrival rings", 60)
    first = waiting_run(stack, deleted)
    assert first is not None
    stack.api.delete(f"/flow_runs/{first['id']}").raise_for_status()
    again = wait_until(lambda: waiting_run(stack, deleted), "the arrival of the deleted run has another one", 90)
    assert again["id"] != first["id"]
    stack.api.patch(POOL, json={"is_paused": False}).raise_for_status()
    # Before there is a limit: of two runs that wait it would cancel the one that comes second.
    stack.books_when(lambda books: books["loaded"] == 1, "the arrival of the deleted run is loaded", 90)

    # A limit that cancels what comes: the arrival waits until there is room.
    limited = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "CANCEL_NEW"}}
    stack.api.patch(f"/deployments/{stack.deployment()['id']}", json=limited).raise_for_status()
    with receiver.holding("/held") as url:
        held = stack.run_now({"source_url": url})
        wait_until(lambda: stack.run(held)["state_name"] == "Running", "the run that is held is under way", 90)
        stack.drop("limited.csv", "limited\n1\n")

        def was_cancelled() -> bool:
            wanted = {"flow_runs": {"state": {"type": {"any_": ["CANCELLED"]}}}}
            runs = stack.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
            return any((run["state"]["message"] or "").startswith("Deployment concurrency limit") for run in runs)

        wait_until(was_cancelled, "the limit has cancelled a run", 90)
    what = "the arrivals whose runs were deleted and cancelled by the limit are loaded"
    books = stack.books_when(lambda books: books["loaded"] >= 2, what, 150)
    assert len(receiver.naming(f"Arrival {cancelled} failed")) == 1
    assert not receiver.naming(deleted)
    assert books["failed"] == 1


@pytest.mark.timeout(900)
def test_a_failed_run_by_hand_is_in_the_status_until_one_succeeds_or_it_is_dismissed(alarm: Alarm):
    stack = alarm.stack
    run = stack.run_now({"source_url": "invalid://user:secret@by-hand"})
    stack.wait_for_end(run)
    line = alarm.said(run)
    assert "`just prefect flow-run retry" in line
    assert "secret" not in line
    issues = stack.status()["run_issues"]
    assert [(one["kind"], one["run_id"]) for one in issues if one["run_id"] == run] == [("failed", run)]
    page = f"http://127.0.0.1:{stack.sensor_port}/"
    auth = tuple(CREDENTIALS.split(":"))

    def on_page() -> str:
        text = (
            httpx.get(page, auth=(auth[0], auth[1]), headers={"Accept": "text/html"}, trust_env=False)
            .raise_for_status()
            .text
        )
        return text.partition('id="inboxes-name"')[0]

    wait_until(lambda: run in on_page(), "the page lists the run", 30)
    assert "secret" not in on_page()
    done = stack.command("sensors", "dismiss", run)
    assert "this needs attention no more" in done.stdout
    assert run not in alarm.status()[1]
    assert run not in on_page()
