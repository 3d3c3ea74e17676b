"""A rhythm: something is done every so often, by a clock that may be set."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class Rhythm:
    """Tells when something is to be done again.

    By the wall clock, because a test or a person may turn it. One that is set back stops nothing: what was done in the
    future is done again.
    """

    every: timedelta
    _done_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Return whether it was not done within the last while."""
        return self._done_at is None or not timedelta(0) <= now - self._done_at < self.every

    def record_done(self, now: datetime) -> None:
        """Take note that it was done."""
        self._done_at = now
