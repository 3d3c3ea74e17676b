"""The time, as it is handed to whoever decides by it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Two clocks: one that tells what to write down, one to measure waits with.

    `utc` returns an aware datetime in UTC; `monotonic` returns seconds that never go back.
    """

    utc: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
