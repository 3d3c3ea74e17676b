"""The sensor's two loops with Prefect: what each step does, and whom the end of a run wakes."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from sensors.config.inboxes import Inbox
from sensors.config.settings import Auth, Settings
from sensors.daemon.inbox_loops import RunLoops
from sensors.ledger import Ledger, arrivals
from sensors.runs import api
from sensors.runs.api import NotReachedError
from sensors.runtime.loop import Loop
from tests.conftest import HandClock
from tests.prefect_server import PrefectServer


@pytest.fixture
def side(ledger: Ledger, server: PrefectServer, inbox: Inbox, tmp_path: Path, hand_clock: HandClock) -> RunLoops:
    settings = Settings(_env_file=None, state_dir=tmp_path, api_port=server.port, auth=Auth.OFF)  # pyright: ignore[reportCallIssue]
    return RunLoops(settings, [inbox], hand_clock.clock)


@pytest.fixture
def arrive(ledger: Ledger, tmp_path: Path) -> Callable[[str, str], None]:
    """Have an arrival of a state, with its folder; one that is running has a run of its own name."""

    def arrive(name: str, state: str) -> None:
        folder = tmp_path / "arrivals" / name
        folder.mkdir(parents=True)
        at, run = "2026-11-24T09:00:00.000000+00:00", name if state == "running" else None
        ledger.change(
            "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, staged_at, announced_at, run_id,"
            " run_name) VALUES (?, 'metrics', ?, ?, 1, ?, ?, ?, ?, ?)",
            (name, str(folder), state, at, at, None if state == "staged" else at, run, run),
        )

    return arrive


def step(loop: Loop) -> float:
    """Let a loop do one step; return how long it would sleep."""
    return loop._step()  # pyright: ignore[reportPrivateUsage]


def test_with_nothing_to_do_both_loops_ask_the_ledger_alone(side: RunLoops, server: PrefectServer):
    assert (step(side.announcing), step(side.following)) == (api.IDLE, api.IDLE)
    assert server.asked == []


def test_what_was_announced_has_its_receipt_looked_for_at_once(
    side: RunLoops, server: PrefectServer, arrive: Callable[[str, str], None]
):
    arrive("m-1", "staged")
    assert step(side.announcing) == 0.0
    assert side.following.wake.is_set()
    assert [one["payload"]["arrival_id"] for one in server.emitted] == ["m-1"]
    assert step(side.announcing) == api.IDLE


def test_a_runs_end_wakes_what_may_have_waited_for_it(
    side: RunLoops, server: PrefectServer, ledger: Ledger, arrive: Callable[[str, str], None], hand_clock: HandClock
):
    arrive("m-1", "running")
    server.run("m-1", "RUNNING", "m-1")
    intake = Loop("inbox metrics", lambda: 60.0, hand_clock.clock)
    side.wake_when_runs_end([intake])
    assert step(side.following) > 0.0
    assert not intake.wake.is_set()
    server.run("m-1", "COMPLETED", "m-1")
    hand_clock.turn(5)
    assert step(side.following) == 0.0
    assert intake.wake.is_set()
    assert side.announcing.wake.is_set()
    arrival = arrivals.get(ledger, "m-1")
    assert arrival is not None
    assert arrival.state == "loaded"


def test_what_is_young_is_asked_about_often_and_what_takes_long_seldom(
    side: RunLoops, server: PrefectServer, arrive: Callable[[str, str], None], hand_clock: HandClock
):
    arrive("m-1", "running")
    server.run("m-1", "RUNNING", "m-1")
    assert step(side.following) == api.FASTEST
    hand_clock.now += timedelta(hours=1)
    assert step(side.following) == api.SLOWEST


def test_without_a_server_a_step_says_so_and_the_arrival_waits(
    ledger: Ledger,
    unreachable: str,
    inbox: Inbox,
    tmp_path: Path,
    hand_clock: HandClock,
    arrive: Callable[[str, str], None],
):
    settings = Settings(_env_file=None, state_dir=tmp_path, api_port=httpx.URL(unreachable).port, auth=Auth.OFF)  # pyright: ignore[reportCallIssue]
    side = RunLoops(settings, [inbox], hand_clock.clock)
    arrive("m-1", "staged")
    with pytest.raises(NotReachedError, match="nothing listens at"):
        step(side.announcing)
    assert ledger.rows("SELECT state, attempt FROM arrivals")[0]["state"] == "staged"
