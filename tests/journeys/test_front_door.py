"""The front door: what a person at the terminal does, and what they read when it cannot be done."""

import os
import socket
import subprocess
import sys
import time

from tests.free_ports import free_ports
from tests.journeys.stack import ROOT, Stack, wait_until


def up(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run `up` where it is expected to give up at once."""
    return subprocess.run(
        [sys.executable, "-m", "sensors", "up"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_second_up_on_the_same_state_folder_is_refused_in_one_line(stack: Stack):
    done = up(**stack.environment)
    assert done.returncode == 1
    assert done.stderr.strip() == f"already running on {stack.state_dir} (pid {stack.pid}); see `just status`"


def test_ports_that_are_taken_are_named_with_who_has_them(tmp_path, stack: Stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up(
            **{
                **stack.environment,
                "STATE_DIR": str(tmp_path / "new"),
                "API_PORT": str(port),
                "SENSOR_PORT": str(free_ports(1)[0]),
            }
        )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"API_PORT {port} is taken by" in line
    assert f"pid {os.getpid()}" in line


def test_every_mistake_in_the_configuration_is_reported_before_anything_starts(tmp_path, stack: Stack):
    inboxes = tmp_path / "inboxes.yaml"
    inboxes.write_text("inboxes:\n  one: {max_files: 0}\n  two: {colour: red}\n")
    state_dir = tmp_path / "new"
    done = up(**{**stack.environment, "STATE_DIR": str(state_dir), "INBOXES_FILE": str(inboxes)})
    assert done.returncode == 1
    assert "inboxes.one.max_files" in done.stderr
    assert "inboxes.two.colour" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (state_dir / "ledger.db").exists()


def test_the_status_is_the_contracts(stack: Stack):
    status = stack.status()
    assert status["healthy"] is True
    assert set(status["inboxes"]["metrics"]) == {"seen", "waiting", "in_flight", "loaded", "rejected", "failed"}
    shown = stack.command("sensors", "status")
    assert shown.returncode == (1 if status["needs_a_person"] else 0)  # what other journeys had fail needs attention
    assert "metrics" in shown.stdout


def test_a_dropped_copy_is_loaded_and_the_original_stays(stack: Stack, tmp_path):
    original = tmp_path / "by hand.csv"
    original.write_text("dropped\nyes\n")
    stack.know_one_of(["dropped"])
    done = stack.command("sensors", "drop", str(original))
    assert done.returncode == 0, done.stderr
    count = "SELECT count(*) FROM public._loads WHERE file_name = 'by hand.csv'"
    wait_until(lambda: stack.rows(count) == [(1,)], "the copy is loaded")
    assert original.read_text() == "dropped\nyes\n"


def test_the_demo_shows_a_journey_and_an_alert(stack: Stack):
    stack.know_one_of(["date"])
    began = time.monotonic()
    done = stack.command("sensors", "demo", seconds=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for step in ("settled", "announced", "3 rows", "line 3", "the broken file caused an alert"):
        assert step in done.stdout
    assert time.monotonic() - began < 60
