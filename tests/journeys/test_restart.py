"""Services die, and everything is stopped or killed and started again, with files waiting."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.journeys.stack import Stack, wait_until

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
    children = psutil.Process(stack.pid).children(recursive=True)
    (sensor,) = [process for process in children if process.cmdline()[-2:] == ["sensors", "run"]]
    said = len(stack.terminal.read_text())
    sensor.kill()
    drop(stack, "after-kill")
    wait_until(lambda: "sensor" in stack.terminal.read_text()[said:], "`up` says so", 20)
    wait_until(lambda: loads(stack).get("after-kill.csv") == ROWS, "the file is loaded")
