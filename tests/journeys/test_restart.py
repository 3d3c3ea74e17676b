"""Services of a running stack die and are started again."""

import json
import time

import pytest

from tests.journeys.stack import Stack, process_of, wait_until
from tests.receiver import Receiver

ROWS = 10


def drop(stack: Stack, *names: str) -> None:
    for name in names:
        stack.drop(f"{name}.csv", "restart\n" + "1\n" * ROWS)


def loads(stack: Stack) -> dict[str, int]:
    """Return how many rows each file has in the warehouse, by the rows themselves."""
    return dict(stack.rows("SELECT _file_name, count(*) FROM public.daily_metrics WHERE restart = 1 GROUP BY 1"))


def test_a_sensor_that_is_killed_is_started_again(stack: Stack):
    sensor = stack.service("sensors", "run")
    said = len(stack.terminal.read_text())
    sensor.kill()
    drop(stack, "after-kill")
    wait_until(lambda: "sensor" in stack.terminal.read_text()[said:], "`up` says so", 20)
    wait_until(lambda: loads(stack).get("after-kill.csv") == ROWS, "the file is loaded")


@pytest.mark.parametrize("state", ["Pending", "Running"])
def test_a_run_starts_again_and_completes_when_it_is_killed_together_with_its_worker(
    stack: Stack, receiver: Receiver, state: str
):
    page = f"/killed-while-{state}"
    receiver.pages[page] = ("application/json", json.dumps({"data": [{"killed_while": state}], "next": None}).encode())
    stack.know_one_of(["killed_while"])
    worker = stack.service("flows.forkserver.worker")
    with receiver.holding(page) as url:
        run_id = stack.run_now({"source_url": url})
        process = wait_until(lambda: process_of(run_id), "the run has a process", pause=0.01)
        if state == "Running":
            wait_until(lambda: stack.run(run_id)["state_name"] == "Running", "the run is under way")
        worker.kill()
        process.kill()
    killed = time.monotonic()
    run = stack.wait_for_end(run_id)
    assert (run["state_name"], run["run_count"]) == ("Completed", 2 if state == "Running" else 1), run["state"]
    assert time.monotonic() - killed < 30
    assert stack.rows(f"SELECT count(*) FROM public.daily_metrics WHERE killed_while = '{state}'") == [(1,)]


def test_a_run_whose_worker_alone_is_killed_ends_by_itself_and_is_not_started_again(stack: Stack, receiver: Receiver):
    said = len(stack.terminal.read_text())
    with receiver.holding("/left-alone") as url:
        run_id = stack.run_now({"source_url": url})
        wait_until(lambda: stack.run(run_id)["state_name"] == "Running", "the run is under way")
        stack.service("flows.forkserver.worker").kill()
        wait_until(lambda: "worker stopped" in stack.terminal.read_text()[said:], "`up` says so", 20)
        looked_until = time.monotonic() + 4  # time enough for `up` to do the wrong thing
        while time.monotonic() < looked_until:
            assert "again that" not in stack.terminal.read_text()[said:]
            time.sleep(0.2)
    run = stack.wait_for_end(run_id)
    # Its output went to the worker: the next line that it logs, not the death, makes it crash.
    assert (run["state_name"], run["run_count"]) in {("Crashed", 1), ("Failed", 1)}, run["state"]
    assert "again that" not in stack.terminal.read_text()[said:]
