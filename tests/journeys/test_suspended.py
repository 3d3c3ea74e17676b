"""All processes are suspended for minutes, as a laptop is that is closed, and go on as if nothing had happened."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import psutil
import pytest

from sensors.stack import processes as marking
from tests.journeys.stack import Stack, wait_until
from tests.receiver import receiving

pytestmark = pytest.mark.slow  # six minutes and a half, of which it waits five

SUSPENDED_SECONDS = 185.0
NAMES = ("first", "second", "third")
INBOXES = "inboxes:\n" + "".join(f"  {name}: {{}}\n" for name in NAMES)


@contextmanager
def suspended(stack: Stack) -> Iterator[None]:
    """Stop every process of the stack for the length of a block, `up` itself as well, and have them go on."""
    up = psutil.Process(stack.pid)
    processes = {one.pid: one for one in [up, *up.children(recursive=True), *marking.marked_processes(stack.state_dir)]}
    for process in processes.values():
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in processes.values():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def running(stack: Stack) -> list[str]:
    """Return the names of the runs that are under way."""
    wanted = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    return [run["name"] for run in stack.api.post("/flow_runs/filter", json=wanted).raise_for_status().json()]


@pytest.mark.timeout(900)
def test_after_all_were_suspended_no_run_is_called_crashed_that_is_alive_and_no_alert_is_sent(
    tmp_path: Path, new_stack: Callable[..., Stack]
):
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text(INBOXES)
    with receiving() as receiver:
        stack = new_stack(tmp_path / "state", INBOXES_FILE=str(inboxes), NOTIFY_URLS=receiver.url()).start()
        try:
            with duckdb.connect(stack.state_dir / "warehouse.duckdb"):  # the runs wait for it
                for name in NAMES:
                    (stack.state_dir / "inbox" / name / f"{name}.csv").write_text("n\n1\n")
                wait_until(lambda: len(running(stack)) == len(NAMES), "every run is under way", 120)
                with suspended(stack):
                    until = time.monotonic() + SUSPENDED_SECONDS
                    wait_until(lambda: time.monotonic() > until, "the suspension is over", SUSPENDED_SECONDS + 5)
                # Longer than any run is given to send its next heartbeat.
                until = time.monotonic() + 135
                while time.monotonic() < until:
                    assert len(running(stack)) == len(NAMES), (stack.state_dir / "logs" / "sensor.log").read_text()
                    time.sleep(1)
            wait_until(lambda: loaded(stack) == len(NAMES), "every file is loaded", 120, pause=1)
            said = (stack.state_dir / "logs" / "sensor.log").read_text()
            assert "is lost" not in said
            assert "announcing again" not in said
            runs = stack.api.post("/flow_runs/filter", json={}).raise_for_status().json()
            ended = [(run["state_name"], run["run_count"]) for run in runs if run["state_type"] != "SCHEDULED"]
            assert ended == [("Completed", 1)] * len(NAMES)
            assert [body["title"] for _, body in receiver.posts] == []
        finally:
            stack.stop()


def loaded(stack: Stack) -> int:
    """Return how many files of all inboxes are loaded."""
    return sum(books["loaded"] for books in stack.status()["inboxes"].values())
