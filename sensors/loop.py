"""A loop that does one step after the other and survives what goes wrong in them."""

import logging
import sqlite3
import threading
from collections.abc import Callable

from sensors.clock import Clock

logger = logging.getLogger(__name__)

AFTER_ERROR_SECONDS = 1.0
STUCK_SECONDS = 120.0
"""A step that takes longer than this is taken for stuck."""


class PausingError(OSError):
    """A trouble that knows how long to wait before the next step; a store that is down is not asked every second."""

    pause_seconds = AFTER_ERROR_SECONDS


class Loop(threading.Thread):
    """Calls a step again and again; between two steps it sleeps as long as the first one said, or until woken.

    A step that raises is tried again after a pause: a full disk or a server that is down must not end the sensor.
    """

    def __init__(self, name: str, step: Callable[[], float], clock: Clock) -> None:
        """`step` does one thing and returns the seconds after which there may be more to do."""
        super().__init__(name=name, daemon=True)
        self.wake = threading.Event()
        self.trouble: str | None = None
        self.has_stepped = False
        """Whether the first step is over, well or not."""
        self._step = step
        self._clock = clock
        self._stopping = False
        self._last_step = clock.monotonic()

    def run(self) -> None:
        """Step until stopped."""
        while not self._stopping:
            self.wake.wait(self._one_step())
            self.wake.clear()

    def _one_step(self) -> float:
        try:
            pause = self._step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the files are safe and the next step may do
            self._tell(f"{type(error).__name__}: {error}", error)
            pause = error.pause_seconds if isinstance(error, PausingError) else AFTER_ERROR_SECONDS
        else:
            if self.trouble is not None:
                logger.info("%s: works again", self.name)
            self.trouble = None
        self.has_stepped = True
        self.beat()
        return pause

    def beat(self) -> None:
        """Say, in the middle of a long step, that it goes on."""
        self._last_step = self._clock.monotonic()

    def _tell(self, trouble: str, error: Exception) -> None:
        """Log a trouble once, however often it comes again; with its origin if it is none that we expect."""
        if trouble != self.trouble:
            ours = type(error).__module__.startswith(("sensors.", "automations."))
            expected = ours or isinstance(error, OSError | sqlite3.Error)
            logger.error("%s: %s", self.name, trouble, exc_info=None if expected else error)
        self.trouble = trouble

    @property
    def alive(self) -> bool:
        """Whether the loop is running and its last step ended not too long ago."""
        return self.is_alive() and self._clock.monotonic() - self._last_step < STUCK_SECONDS

    def stop(self) -> None:
        """Let the step that is under way end, and no other begin."""
        self._stopping = True
        self.wake.set()
