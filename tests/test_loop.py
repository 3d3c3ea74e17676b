"""A loop that survives what goes wrong in its steps."""

import threading

import pytest

from sensors import loop as loops
from sensors.clock import Clock
from sensors.loop import Loop


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loops, "AFTER_ERROR_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_step_that_fails_is_tried_again_and_its_trouble_told_once(caplog):
    done = threading.Event()
    results = iter([OSError(28, "No space left on device")] * 3 + [None])

    def step() -> float:
        result = next(results, None)
        if result is not None:
            raise result
        done.set()
        return 60

    loop = Loop("inbox metrics", step, Clock())
    loop.start()
    assert done.wait(5)
    loop.stop()
    loop.join(5)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["inbox metrics: OSError: [Errno 28] No space left on device"]
    assert loop.trouble is None


def test_a_sleeping_loop_steps_when_it_is_woken():
    stepped = threading.Semaphore(0)

    def step() -> float:
        stepped.release()
        return 60

    loop = Loop("prefect", step, Clock())
    loop.start()
    assert stepped.acquire(timeout=5)
    loop.wake.set()
    assert stepped.acquire(timeout=5)
    loop.stop()
    loop.join(5)
    assert not loop.alive
