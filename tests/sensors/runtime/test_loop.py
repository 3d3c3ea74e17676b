"""A loop that survives what goes wrong in its steps."""

import threading

import pytest

from sensors.runtime import loop as loops
from sensors.runtime.clock import Clock
from sensors.runtime.loop import STUCK_SECONDS, Loop


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loops, "AFTER_ERROR_SECONDS", 0.01)


@pytest.mark.usefixtures("quick")
def test_a_step_that_fails_is_tried_again_and_its_trouble_reported_once(caplog):
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
    reported = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert reported == ["inbox metrics: OSError: [Errno 28] No space left on device"]
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


class Stepping:
    """A loop whose steps are let in and out one by one, by a clock that is turned by hand."""

    def __init__(self, clock: Clock) -> None:
        self.loop = Loop("inbox metrics", self._step, clock)
        self.loop.wake = _Wake()
        self._begun, self._may_end = threading.Semaphore(0), threading.Semaphore(0)
        self._result: float | Exception = 0.0
        self.loop.start()
        assert self._begun.acquire(timeout=5)

    def _step(self) -> float:
        self._begun.release()
        assert self._may_end.acquire(timeout=30)
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def finish(self, result: float | Exception) -> None:
        """Let the step that is under way end, with the pause that it asks for."""
        self._result = result
        self._may_end.release()
        assert self.loop.wake.waiting.acquire(timeout=5)

    def begin(self) -> None:
        """Have the next step begin before its pause is over."""
        self.loop.wake.set()
        assert self._begun.acquire(timeout=5)


class _Wake(threading.Event):
    """Tells when somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.release()
        return super().wait(timeout)


@pytest.fixture
def stepping(hand_clock):
    stepping = Stepping(hand_clock.clock)
    yield stepping
    stepping.loop.stop()
    stepping._may_end.release()
    stepping.loop.join(5)


def test_a_loop_that_keeps_a_long_pause_that_was_asked_for_is_not_stuck(stepping, hand_clock):
    stepping.finish(900.0)
    hand_clock.turn(900 + STUCK_SECONDS - 1)
    assert stepping.loop.alive
    assert stepping.loop.silent_seconds == STUCK_SECONDS - 1
    hand_clock.turn(2)
    assert not stepping.loop.alive


def test_a_step_that_hangs_is_stuck_however_long_the_pause_before_it_was_to_be(stepping, hand_clock):
    stepping.finish(900.0)
    hand_clock.turn(STUCK_SECONDS + 10)
    stepping.begin()
    hand_clock.turn(STUCK_SECONDS - 1)
    assert stepping.loop.alive
    hand_clock.turn(2)
    assert not stepping.loop.alive
    assert stepping.loop.silent_seconds == STUCK_SECONDS + 1


def test_a_long_step_that_gives_signs_of_life_is_not_stuck(stepping, hand_clock):
    for _ in range(10):
        hand_clock.turn(STUCK_SECONDS - 1)
        assert stepping.loop.alive
        stepping.loop.beat()


def test_whatever_a_step_raises_the_loop_goes_on():
    done = threading.Event()
    results: list[BaseException] = [SystemExit(3), KeyboardInterrupt(), MemoryError()]

    def step() -> float:
        if results:
            raise results.pop()
        done.set()
        return float("inf")

    loop = Loop("inbox metrics", step, Clock())
    loop.start()
    assert done.wait(10)
    assert loop.is_alive()
    assert loop.error is None
    loop.stop()
    loop.join(5)
    assert not loop.has_ended


def test_a_long_step_reports_its_progress_from_whatever_code_runs_in_it(hand_clock):
    stepped, turned = threading.Semaphore(0), threading.Semaphore(0)

    def step() -> float:
        for _ in range(3):
            assert turned.acquire(timeout=5)
            loops.beat()
            stepped.release()
        return 60

    loop = Loop("inbox metrics", step, hand_clock.clock)
    loop.start()
    for _ in range(3):
        hand_clock.turn(STUCK_SECONDS - 1)
        turned.release()
        assert stepped.acquire(timeout=5)
        assert loop.alive
    loop.stop()
    loop.join(5)
    loops.beat()  # anywhere else it does nothing
