"""A stack of its own is stopped or killed and started again: with files waiting, and with credentials or without."""

import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tests.journeys.stack import Stack, wait_until
from tests.journeys.test_restart import ROWS, drop, loads
from tests.receiver import Receiver


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
        books = stack.books_when(lambda books: books["loaded"] == len(names), "all files are loaded", 150)
        assert loads(stack) == dict.fromkeys(names, ROWS)
        assert list(stack.inbox.iterdir()) == []
        assert books["seen"] == books["loaded"] == len(names)
    finally:
        stack.stop()


def stopped_within_10_s(stack: Stack, how: signal.Signals) -> None:
    """Stop the stack and see that nothing of it is left."""
    descendants = psutil.Process(stack.pid).children(recursive=True)
    assert len(descendants) >= 3
    began = time.monotonic()
    assert stack.stop(how) == 0
    assert time.monotonic() - began < 10
    assert [one for one in descendants if one.is_running() and one.status() != psutil.STATUS_ZOMBIE] == []
    assert stack.status()["healthy"] is False


def test_credentials_are_made_once_auth_off_needs_none_and_a_signal_stops_everything(
    tmp_path, new_stack: Callable[..., Stack], receiver: Receiver
):
    stack = new_stack(tmp_path / "state", PREFECT_API_AUTH_STRING="").start()
    try:
        env_file = tmp_path / "state.env"
        assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
        written = env_file.read_text().strip().removeprefix("PREFECT_API_AUTH_STRING=")
        assert written.startswith("admin:")
        said = stack.terminal.read_text()  # a file, and so a log
        assert str(env_file) in said
        assert written not in said
        assert httpx.post(f"{stack.api.base_url}flow_runs/filter", json={}).status_code == 401
        user, _, password = written.partition(":")
        assert httpx.post(f"{stack.api.base_url}flow_runs/filter", json={}, auth=(user, password)).status_code == 200
        stopped_within_10_s(stack, signal.SIGINT)

        stack.environment |= {"AUTH": "off", "PREFECT_SERVER_API_AUTH_STRING": "admin:left-over"}
        stack.start()
        assert "AUTH=off: the API asks for no credentials" in stack.terminal.read_text()
        assert httpx.post(f"{stack.api.base_url}flow_runs/filter", json={}).status_code == 200
        with receiver.holding("/never-answers") as url:
            run_id = stack.run_now({"source_url": url})
            wait_until(lambda: stack.run(run_id)["state_name"] == "Running", "the run is under way")
            stopped_within_10_s(stack, signal.SIGTERM)
    finally:
        stack.stop()
