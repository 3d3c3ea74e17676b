"""Suspension: notice that this process itself did not run for a while, so that nothing is concluded from that time.

A process is suspended by SIGSTOP, by a laptop that is closed, by a virtual machine that is paused, or by a machine that
is so busy that it gets no turn. Whatever was silent meanwhile may have been suspended as well, or had no one to hear
it. So every verdict that rests on silence gives a full period anew after that.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

TICK_SECONDS = 1.0
LIMIT_SECONDS = 10.0
"""A tick that comes this much too late was not merely late: the process was suspended."""


@dataclass(frozen=True)
class Resumed:
    """The moment at which this process went on after a suspension."""

    at: datetime
    monotonic: float


def elapsed() -> float:
    """Return seconds that go on while the machine sleeps; `time.monotonic` stands still then on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now() -> datetime:
    return datetime.now(UTC)


class Suspensions:
    """Ticks once a second and remembers after which tick the process was last suspended.

    Asking ticks as well: the thread that is asked first after a suspension must not hear of the time before.
    """

    def __init__(
        self,
        elapsed: Callable[[], float] = elapsed,
        utc: Callable[[], datetime] = _now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._elapsed = elapsed
        self._utc = utc
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._ticked = elapsed()
        self._resumed: Resumed | None = None
        self._is_over = threading.Event()

    def resumed(self) -> Resumed | None:
        """Return when the process last went on after a suspension, or None if it has run ever since its start."""
        with self._lock:
            now = self._elapsed()
            if now - self._ticked > LIMIT_SECONDS:
                self._resumed = Resumed(self._utc(), self._monotonic())
            self._ticked = now
            return self._resumed

    def start(self) -> None:
        """Begin to tick, in a thread of its own."""
        threading.Thread(target=self._run, name="suspensions", daemon=True).start()

    def _run(self) -> None:
        while not self._is_over.wait(TICK_SECONDS):
            self.resumed()

    def stop(self) -> None:
        """Tick no more."""
        self._is_over.set()


# The time, as it is handed to whatever decides by it.


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _never() -> Resumed | None:
    return None


@dataclass(frozen=True)
class Clock:
    """Wall clock for timestamps, monotonic clock for waiting, and since when this process has run without a pause.

    `utc` returns an aware datetime in UTC; `monotonic` returns seconds that never go back; `resumed` returns when the
    process last went on after a suspension (sensors/runtime/clock.py), or None.
    """

    utc: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    resumed: Callable[[], Resumed | None] = _never

    def not_before_resumed(self, moment: datetime) -> datetime:
        """Return a moment, or the end of the last suspension if that is later: silence counts from there.

        A suspension that seems to end in the future bears the time of a clock that was set back since, and is ignored.
        """
        resumed = self.resumed()
        return moment if resumed is None or resumed.at > self.utc() else max(moment, resumed.at)
