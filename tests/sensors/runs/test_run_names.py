"""Runs are called after the files of their arrival, and nothing depends on it."""

from collections.abc import Iterator

import pytest

from sensors.runs.announcer import AFTER, IDLE, RunNamer, run_name
from sensors.runs.api import PrefectApi
from tests.prefect_server import PrefectServer, prefect_answering


@pytest.fixture
def api() -> Iterator[PrefectServer]:
    with prefect_answering() as server:
        yield server


@pytest.fixture
def namer(ledger, api, hand_clock) -> Iterator[RunNamer]:
    """A namer and an arrival of two files whose run r1 has begun."""
    ledger.change(
        "INSERT INTO arrivals (id, inbox, folder, state, attempt, created_at, run_id, run_name)"
        " VALUES ('m-1', 'metrics', '/m-1', 'running', 1, '2026', 'r1', 'brave-otter')"
    )
    for name in ("a.csv", "b.csv"):
        ledger.change(
            "INSERT INTO files (inbox, path, name, device, inode, size, mtime_ns, state, arrival_id, seen_at)"
            " VALUES ('metrics', ?, ?, '1', '1', 1, 1, 'staged', 'm-1', '2026')",
            (name, name),
        )
    with PrefectApi(api.url, None) as client:
        yield RunNamer(ledger, client, hand_clock.clock)


def name_in(ledger) -> str:
    return ledger.rows("SELECT run_name FROM arrivals")[0][0]


def test_a_run_gets_its_files_name_and_two_tags_beside_its_own(namer, api, ledger, hand_clock):
    api.run("r1", "RUNNING", "m-1")
    api.runs[0]["tags"] = ["env:prod"]
    namer.notice("m-1", "r1")
    hand_clock.turn(AFTER)
    assert namer.step() == IDLE
    assert api.runs[0]["name"] == "a.csv +1 @ metrics"
    assert api.runs[0]["tags"] == ["env:prod", "inbox:metrics", "arrival:m-1"]
    assert name_in(ledger) == "a.csv +1 @ metrics"


def test_the_server_is_left_alone_while_the_run_starts_and_while_there_is_none(namer, api, hand_clock):
    api.run("r1", "RUNNING", "m-1")
    assert namer.step() == IDLE
    namer.notice("m-1", "r1")
    assert namer.step() == pytest.approx(AFTER)
    assert api.asked == []
    hand_clock.turn(AFTER)
    namer.step()
    assert len(api.asked) == 2


@pytest.mark.parametrize("trouble", ["gone", "busy"])
def test_a_run_that_cannot_be_named_keeps_its_name_and_is_no_trouble(namer, api, ledger, hand_clock, trouble):
    if trouble == "busy":
        api.run("r1", "RUNNING", "m-1")
        api.status = 503
    namer.notice("m-1", "r1")
    hand_clock.turn(AFTER)
    assert namer.step() == IDLE
    assert name_in(ledger) == "brave-otter"
    asked = len(api.asked)
    hand_clock.turn(IDLE)
    namer.step()
    assert len(api.asked) == asked


def test_a_name_without_end_is_cut():
    assert run_name(["x" * 200], "metrics") == f"{'x' * 79}… @ metrics"
    assert run_name(["north/a.csv"], "partners") == "north/a.csv @ partners"
    assert run_name([], "metrics") == "no files @ metrics"
