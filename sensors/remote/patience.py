"""Patience with a store: the more often it fails in a row, the longer the pause until it is asked again."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sensors.inbox.intake import Step
from sensors.remote.source import RemoteOrigin
from sensors.remote.store import PartlyError, StoreError

LONGEST_SECONDS = 60.0


def pause_after(failures: int) -> float:
    """Return the seconds to wait after so many failures in a row: 1, 2, 4 and so on, a minute at most.

    >>> [pause_after(failures) for failures in (1, 2, 3, 10)]
    [1.0, 2.0, 4.0, 60.0]
    """
    return min(LONGEST_SECONDS, 2.0 ** min(failures - 1, 10))


@dataclass
class Patience:
    """Takes the steps of a remote inbox's intake."""

    step: Callable[[], Step]
    origin: RemoteOrigin
    found_work: Callable[[], object]
    """Is called when there may be arrivals although a trouble has to be told."""
    _failures: int = field(default=0, init=False)

    def __call__(self) -> Step:
        """Take one step. Raises StoreError with the pause until the next one."""
        try:
            done = self.step()
        except PartlyError as error:
            error.pause_seconds = self.origin.inbox.rescan_seconds  # the other folders go on as ever
            self.found_work()
            raise
        except StoreError as error:
            self._failures += 1
            error.pause_seconds = pause_after(self._failures)
            self.found_work()
            raise
        self._failures = 0
        return done
