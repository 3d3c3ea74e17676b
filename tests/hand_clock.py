"""A clock that is turned by hand."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sensors.runtime.clock import Clock


@dataclass
class HandClock:
    """A clock that stands still until it is turned."""

    now: datetime = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
    seconds: float = 1000.0
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(utc=lambda: self.now, monotonic=lambda: self.seconds)

    def turn(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)
