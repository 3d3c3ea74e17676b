"""Wall clock, monotonic clock, and the detection of times in which this process was suspended.

A process is suspended by SIGSTOP, by a closed laptop, by a paused virtual machine, or by a machine too busy to schedule
it. Other processes may have been suspended as well, or sent events that this process could not receive. So a decision
that rests on silence allows a full period after the process has resumed.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

TICK_SECONDS = 1.0
LIMIT_SECONDS = 10.0
"""More time than this between two ticks means that the process was suspended."""


@dataclass(frozen=True)
class Resumed:
    """The moment at which this process resumed after a suspension."""

    at: datetime
    monotonic: float


def elapsed() -> float:
    """Return monotonic seconds that include the machine's sleep; on Linux `time.monotonic` stops during sleep."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _now() -> datetime:
    return datetime.now(UTC)


class Suspensions:
    """Ticks once a second, and remembers when the process last resumed after a suspension.

    `resumed()` ticks too, so that its first caller after a suspension already gets that suspension.
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
        """Return when the process last resumed after a suspension, or None if it was never suspended."""
        with self._lock:
            now = self._elapsed()
            if now - self._ticked > LIMIT_SECONDS:
                self._resumed = Resumed(self._utc(), self._monotonic())
            self._ticked = now
            return self._resumed

    def start(self) -> None:
        """Start a thread that ticks."""
        threading.Thread(target=self._run, name="suspensions", daemon=True).start()

    def _run(self) -> None:
        while not self._is_over.wait(TICK_SECONDS):
            self.resumed()

    def stop(self) -> None:
        """Stop the thread."""
        self._is_over.set()


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _never() -> Resumed | None:
    return None


@dataclass(frozen=True)
class Clock:
    """Wall clock for timestamps, monotonic clock for waiting, and the end of the last suspension.

    `utc` returns an aware datetime in UTC; `monotonic` returns seconds that never go back; `resumed` returns when the
    process last resumed after a suspension, or None.
    """

    utc: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    resumed: Callable[[], Resumed | None] = _never

    def not_before_resumed(self, moment: datetime) -> datetime:
        """Return the later of `moment` and the end of the last suspension: silence counts from there.

        A suspension that ended in the future is ignored: the wall clock was set back since.
        """
        resumed = self.resumed()
        return moment if resumed is None or resumed.at > self.utc() else max(moment, resumed.at)
