"""Services die, and everything is stopped or killed and started again, with files waiting."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

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


def test_files_that_waited_and_files_that_came_meanwhile_are_loaded_once(
    tmp_path: Path, new_stack: Callable[..., Stack]
):
    stack = new_stack(tmp_path / "state").start()
    try:
        # At the moment of each stop some files wait, some are staged, announced or being loaded.
        drop(stack, "a0", "a1", "a2")
        wait_until((stack.state_dir / "arrivals").exists, "the first file is taken")
        stack.stop(signal.SIGTERM)
        drop(stack, "b0", "b1", "b2")
        stack.start()
        drop(stack, "c0", "c1", "c2")
        wait_until(lambda: not list(stack.inbox.glob("c*")), "the files are taken")
        stack.stop(signal.SIGKILL)
        drop(stack, "d0", "d1", "d2")
        stack.start()
        drop(stack, "e0")
        names = [f"{when}{n}.csv" for when in "abcd" for n in range(3)] + ["e0.csv"]
        wait_until(lambda: stack.books()["loaded"] == len(names), "all files are loaded", 150, pause=1)
        assert loads(stack) == dict.fromkeys(names, ROWS)
        assert list(stack.inbox.iterdir()) == []
        books = stack.books()
        assert books["seen"] == books["loaded"] == len(names)
    finally:
        stack.stop()


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
