"""Whether the sensor is ready: it has begun with everything, and its ledger opens."""

import pytest
from starlette.applications import Starlette

from sensors.runtime.clock import Clock
from sensors.runtime.loop import Loop
from sensors.web.metrics import ready_page
from tests.scrape import get


@pytest.fixture
def begun():
    """Make loops whose first step is over."""
    loops: list[Loop] = []

    def begin(name: str, step=lambda: 60.0) -> Loop:
        loop = Loop(name, step, Clock())
        loops.append(loop)
        loop.start()
        while not loop.has_stepped:
            loop.join(0.001)
        return loop

    yield begin
    for loop in loops:
        loop.stop()
        loop.join()


def asked(loops, path):
    return get(Starlette(routes=[ready_page(loops, path)]), "/readyz")


def test_a_sensor_that_has_begun_with_everything_is_ready(begun, ledger, tmp_path):
    answer = asked([begun("inbox metrics")], tmp_path / "ledger.db")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "detail": ""}


def test_before_the_first_step_of_every_loop_it_is_not(begun, ledger, tmp_path):
    answer = asked([begun("prefect"), Loop("inbox metrics", lambda: 60.0, Clock())], tmp_path / "ledger.db")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "detail": "inbox metrics: its first step is not over"}


def test_a_first_step_that_failed_keeps_no_one_waiting(begun, ledger, tmp_path):
    def fail() -> float:
        raise OSError("the store is down")

    assert asked([begun("inbox remote", fail)], tmp_path / "ledger.db").status_code == 200


def test_without_a_ledger_that_opens_it_is_not_ready(begun, tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"rubbish" * 1000)
    answer = asked([begun("prefect")], tmp_path / "ledger.db")
    assert answer.status_code == 503
    assert "cannot be opened" in answer.json()["detail"]
