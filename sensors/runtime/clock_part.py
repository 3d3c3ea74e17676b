"""The time, as it is handed to whatever decides by it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sensors.runtime.clock import Resumed


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
